#!/usr/bin/env bash
# Adds cvm-unlock to an initramfs. Bash runs at build time only; at run time there are units and one
# executable. Works with dracut 059, 106 and 112: other modules are requested by name, never by number.

# shellcheck disable=SC2154  # initdir, systemdsystemunitdir, … are dracut's

# Only on request (`--add cvm-unlock`, or add_dracutmodules in a drop-in): an image with this module powers
# off instead of asking for a passphrase, so nobody should get it by accident.
check() {
    require_binaries cvm-unlock systemctl || return 1
    return 255
}

depends() {
    echo "systemd-initrd udev-rules dm"
}

installkernel() {
    # Device mapper and the one cipher that we accept, in every implementation that a guest CPU may prefer.
    hostonly='' instmods dm_mod dm_crypt xts ecb aes aes_generic aesni_intel aes_arm64 aes_ce_blk aes_neon_blk aes_s390 paes_s390
    # dm-crypt does not hash, but the kernel keyring and some IV modes need these.
    hostonly='' instmods sha256 sha512 hmac
    # TPM drivers, which are modules on some distributions and built in on others.
    hostonly='' instmods '=drivers/char/tpm'
    # For LoaderDevicePartUUID, which names the boot disk.
    hostonly='' instmods efivarfs
    # The disks of confidential VMs: virtio, NVMe, SCSI, Hyper-V, Xen.
    hostonly='' instmods virtio_pci virtio_blk virtio_scsi nvme sd_mod hv_storvsc hv_vmbus pci_hyperv xen_blkfront
    # Root file systems.
    hostonly='' instmods ext4 xfs btrfs
    if cvm_unlock_needs network; then
        # The network cards of confidential VMs: virtio, Azure, AWS, Google, VMware, Xen. Azure's virtual
        # functions (mlx5) are not needed: hv_netvsc carries the packets without them.
        hostonly='' instmods virtio_net hv_netvsc mana ena gve vmxnet3 e1000e ixgbevf xen_netfront
        hostonly='' instmods af_packet ipv6
    fi
}

install() {
    local config=/etc/cvm-unlock/config.json executable=/usr/bin/cvm-unlock
    local units=$systemdsystemunitdir overrides=/etc/systemd/system

    executable=$(find_binary cvm-unlock) || return 1
    inst_simple "$executable" /usr/bin/cvm-unlock
    if [[ -e ${dracutsysrootdir-}$config ]]; then
        # An image with an invalid configuration would power off at its first boot, so stop here.
        "${dracutsysrootdir-}$executable" config check --config="${dracutsysrootdir-}$config" \
            || dfatal_and_stop "cvm-unlock: $config is not valid"
        inst_simple "$config"
    else
        dwarn "cvm-unlock: there is no $config: with the defaults no volume opens, since nobody is named who can vouch for one"
    fi

    local unit
    for unit in cvm-unlock.service cvm-unlock-fail.service; do
        inst_simple "$moddir/$unit" "$units/$unit"
    done
    # In /etc, which overrides units of generators and of other packages.
    mkdir -p "$initdir$overrides"
    for unit in emergency.target rescue.target; do
        inst_simple "$moddir/fail-closed.target" "$overrides/$unit"
    done
    cvm_unlock_mount_unit "$executable" "$config" > "$initdir$overrides/sysroot.mount" \
        || dfatal_and_stop "cvm-unlock: could not write sysroot.mount"
    cvm_unlock_require initrd-root-device.target "$units/cvm-unlock.service"
    cvm_unlock_require initrd-root-fs.target "$overrides/sysroot.mount"
    # sysroot.mount waits for this device from the first second of the initrd, and systemd's 90 s would cut
    # off a slow unlock. The limit is the unlock unit's own plus half a minute for udev.
    mkdir -p "$initdir$overrides/dev-mapper-root.device.d"
    printf '[Unit]\nJobRunningTimeoutSec=510\n' > "$initdir$overrides/dev-mapper-root.device.d/50-cvm-unlock.conf"

    cvm_unlock_phases
    cvm_unlock_modules_load
    cvm_unlock_mask
    if cvm_unlock_needs network; then
        cvm_unlock_network
    fi
}

# The units of systemd that extend PCRs before us (`enter-initrd` into PCR 11; from systemd 261 on,
# `os-separator` into most others). dracut's own modules for them (systemd-pcrphase up to 106,
# systemd-pcrextend later) add a command-line TPM tool, libcurl and more: 17 MB. The helper itself needs five
# small libraries.
cvm_unlock_phases() {
    local unit units=$systemdsystemunitdir
    inst_multiple -o "$systemdutildir/systemd-pcrextend" "$systemdutildir/systemd-pcrphase"
    for unit in systemd-pcrphase-initrd.service systemd-pcrosseparator.service; do
        # The initrd's target wants one, every system's target the other; conditions keep it to the initrd.
        inst_multiple -o "$units/$unit" "$units/initrd.target.wants/$unit" "$units/sysinit.target.wants/$unit"
    done
    inst_libdir_file "libtss2-esys.so*" "libtss2-mu.so*" "libtss2-rc.so*" "libtss2-sys.so*" "libtss2-tcti-device.so*"
}

# Loads these modules while we wait for the disk, instead of when the mapping is made.
cvm_unlock_modules_load() {
    mkdir -p "$initdir/usr/lib/modules-load.d"
    printf 'dm_crypt\nxts\n' > "$initdir/usr/lib/modules-load.d/cvm-unlock.conf"
}

# Masks everything else that would open the root volume, ask for a passphrase or give a shell.
cvm_unlock_mask() {
    local unit generator
    for unit in systemd-cryptsetup@root.service systemd-veritysetup@root.service \
        emergency.service rescue.service debug-shell.service dracut-emergency.service \
        systemd-ask-password-console.path systemd-ask-password-console.service \
        systemd-ask-password-plymouth.path systemd-ask-password-plymouth.service; do
        ln -sfn /dev/null "$initdir/etc/systemd/system/$unit"
    done
    mkdir -p "$initdir/etc/systemd/system-generators"
    for generator in systemd-gpt-auto-generator systemd-cryptsetup-generator systemd-veritysetup-generator \
        systemd-debug-generator; do
        ln -sfn /dev/null "$initdir/etc/systemd/system-generators/$generator"
    done
}

# The mount unit for the root file system, from the measured configuration (or the defaults).
cvm_unlock_mount_unit() {
    local executable=${dracutsysrootdir-}$1 config=${dracutsysrootdir-}$2
    if [[ -e $config ]]; then
        "$executable" config mount-unit --config="$config"
    else
        "$executable" config mount-unit
    fi
}

# Whether the configuration needs `$1` in the initramfs. A missing answer does not count as "no": an image
# that must attest would power off at its first boot without its network.
cvm_unlock_needs() {
    local config=${dracutsysrootdir-}/etc/cvm-unlock/config.json executable words
    [[ -e $config ]] || return 1
    executable=$(find_binary cvm-unlock) \
        && words=$("${dracutsysrootdir-}$executable" config needs --config="$config") \
        || dfatal_and_stop "cvm-unlock: cannot say what $config needs in the initramfs"
    [[ $'\n'$words$'\n' == *$'\n'"$1"$'\n'* ]]
}

# The network on demand: a path unit waits for our request. The image gets nothing of the build host's own
# network, only /etc/cvm-unlock/network, and neither the kernel command line (ip=) nor credentials configure
# it.
cvm_unlock_network() {
    local unit backend files=${dracutsysrootdir-}/etc/cvm-unlock/network units=$systemdsystemunitdir
    local networkd=$systemdutildir/systemd-networkd
    if cvm_unlock_any "$files"/*.nmconnection; then
        backend=network_manager
    elif cvm_unlock_any "$files"/*.network "$files"/*.netdev "$files"/*.link || [[ -x ${dracutsysrootdir-}$networkd ]]; then
        backend=networkd
    else
        backend=network_manager
    fi
    for unit in cvm-unlock-network.path cvm-unlock-network.service; do
        inst_simple "$moddir/$unit" "$units/$unit"
    done
    mkdir -p "$initdir/etc/systemd/system/sysinit.target.wants"
    ln -sfn "$units/cvm-unlock-network.path" "$initdir/etc/systemd/system/sysinit.target.wants/cvm-unlock-network.path"
    # Gives cards the names that they have in the booted system.
    inst_multiple -o "$systemdutildir/network/99-default.link"
    cvm_unlock_resolver
    "cvm_unlock_$backend" "$files"
}

# The C library's resolver in a static executable has no plug-ins beside the built-in ones.
cvm_unlock_resolver() {
    local nsswitch=$initdir/etc/nsswitch.conf others=''
    [[ -e $nsswitch ]] && others=$(grep -v '^[[:space:]]*hosts:' "$nsswitch")
    rm -f "$nsswitch"
    printf '%s\n' ${others:+"$others"} 'hosts: files dns' > "$nsswitch"
}

cvm_unlock_networkd() {
    local files=$1 file name to=$initdir/etc/systemd/network system=$initdir/etc/systemd/system
    inst_multiple "$systemdutildir/systemd-networkd" "$systemdsystemunitdir/systemd-networkd.service" \
        || dfatal_and_stop "cvm-unlock: kbs needs a network, and there is no systemd-networkd"
    cvm_unlock_user systemd-network
    mkdir -p "$to"
    for file in "$files"/*.network "$files"/*.netdev "$files"/*.link; do
        [[ -f $file ]] || continue
        name=${file##*/}
        cvm_unlock_copy 0644 "$file" "$to/$name"
        [[ $name == *.network ]] || continue
        mkdir -p "$to/$name.d"
        printf '[Network]\nKeepConfiguration=no\n' > "$to/$name.d/99-cvm-unlock.conf"
    done
    cvm_unlock_any "$to"/*.network || cvm_unlock_copy 0644 "$moddir/default.network" "$to/90-cvm-unlock.network"
    cvm_unlock_backend systemd-networkd.service
    # Nothing else may start it without our request.
    mkdir -p "$system/systemd-networkd.service.d"
    printf '[Unit]\nConditionPathExists=/run/cvm-unlock/network-wanted\n' \
        > "$system/systemd-networkd.service.d/50-cvm-unlock.conf"
    # The sockets would start it again while it is being stopped, and the generator reads the kernel command
    # line and credentials.
    for name in systemd-networkd.socket systemd-networkd-varlink.socket systemd-networkd-resolve-hook.socket \
        systemd-networkd-persistent-storage.service systemd-networkd-wait-online.service \
        systemd-network-generator.service dbus-org.freedesktop.network1.service; do
        ln -sfn /dev/null "$system/$name"
    done
    ln -sfn ../run/cvm-unlock/resolv.conf "$initdir/etc/resolv.conf"
}

cvm_unlock_network_manager() {
    local files=$1 file to=$initdir/etc/NetworkManager unit=cvm-unlock-network-manager.service
    inst_multiple NetworkManager || dfatal_and_stop "cvm-unlock: kbs needs a network, and there is neither systemd-networkd nor NetworkManager"
    inst_multiple -o /usr/{lib,libexec}/NetworkManager/nm-daemon-helper /usr/{lib,libexec}/nm-daemon-helper
    mkdir -p "$to/system-connections"
    for file in "$files"/*.nmconnection; do
        [[ -f $file ]] || continue
        cvm_unlock_copy 0600 "$file" "$to/system-connections/${file##*/}"
    done
    cvm_unlock_any "$to"/system-connections/*.nmconnection \
        || cvm_unlock_copy 0600 "$moddir/default.nmconnection" "$to/system-connections/cvm-unlock.nmconnection"
    printf '[main]\nplugins=keyfile\ndhcp=internal\ndns=default\nrc-manager=symlink\nhostname-mode=none\n' > "$to/NetworkManager.conf"
    inst_simple "$moddir/$unit" "$systemdsystemunitdir/$unit"
    cvm_unlock_backend "$unit"
    ln -sfn ../run/NetworkManager/resolv.conf "$initdir/etc/resolv.conf"
}

# The service that cvm-unlock-network.service starts, stops, and cleans up after.
cvm_unlock_backend() {
    local folder=$initdir/etc/systemd/system/cvm-unlock-network.service.d
    mkdir -p "$folder"
    printf '[Unit]\nWants=%s\nBefore=%s\nPropagatesStopTo=%s\n' "$1" "$1" "$1" > "$folder/50-backend.conf"
}

# A system user from the distribution, or the same user in a tree where systemd-sysusers has not run.
cvm_unlock_user() {
    local user=$1 file entry
    for file in passwd group; do
        grep -qs "^$user:" "$initdir/etc/$file" && continue
        entry=$(grep -s "^$user:" "${dracutsysrootdir-}/etc/$file") || case $file in
            passwd) entry="$user:x:192:192::/:/usr/sbin/nologin" ;;
            group) entry="$user:x:192:" ;;
        esac
        printf '%s\n' "$entry" >> "$initdir/etc/$file"
    done
}

# Like install(1), whose name is taken by a function of this module.
cvm_unlock_copy() {
    cp -L --no-preserve=all "$2" "$3" && chmod "$1" "$3"
}

# Whether one of these files exists (a pattern that matches nothing stands for itself).
cvm_unlock_any() {
    local file
    for file; do
        [[ -f $file ]] && return 0
    done
    return 1
}

# Makes a target require a unit, like `systemctl add-requires` (which some versions refuse on masked roots).
cvm_unlock_require() {
    local target=$1 unit=$2 requires
    requires=$initdir/etc/systemd/system/$target.requires
    mkdir -p "$requires"
    ln -sfn "$unit" "$requires/${unit##*/}"
}

dfatal_and_stop() {
    dfatal "$1"
    exit 1
}
