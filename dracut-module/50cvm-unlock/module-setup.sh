#!/usr/bin/env bash
# Puts cvm-unlock into an initramfs. Bash runs at build time only; at run time there are units and one executable.
# Works with dracut 059, 106 and 112: other modules are asked for by name, never by number.

# shellcheck disable=SC2154  # initdir, systemdsystemunitdir, … are dracut's

# Only when asked for (`--add cvm-unlock`, or add_dracutmodules in a drop-in): an image with this module powers
# off rather than ask for a passphrase, so nobody should get it by accident.
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
    # dm-crypt hashes nothing, but the kernel keyring and some IV paths want these.
    hostonly='' instmods sha256 sha512 hmac
    # TPMs that are modules on some distributions; built in on others.
    hostonly='' instmods '=drivers/char/tpm'
    # LoaderDevicePartUUID names the boot disk.
    hostonly='' instmods efivarfs
    # The disks of confidential VMs: virtio, NVMe, SCSI, Hyper-V, Xen.
    hostonly='' instmods virtio_pci virtio_blk virtio_scsi nvme sd_mod hv_storvsc hv_vmbus pci_hyperv xen_blkfront
    # Root file systems.
    hostonly='' instmods ext4 xfs btrfs
}

install() {
    local config=/etc/cvm-unlock/config.json executable=/usr/bin/cvm-unlock
    local units=$systemdsystemunitdir overrides=/etc/systemd/system

    executable=$(find_binary cvm-unlock) || return 1
    inst_simple "$executable" /usr/bin/cvm-unlock
    if [[ -e ${dracutsysrootdir-}$config ]]; then
        # An image with a configuration that cannot be read would power off at its first boot: stop here instead.
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
    # In /etc, where no generator and no other package can put something in its place.
    mkdir -p "$initdir$overrides"
    for unit in emergency.target rescue.target; do
        inst_simple "$moddir/fail-closed.target" "$overrides/$unit"
    done
    cvm_unlock_mount_unit "$executable" "$config" > "$initdir$overrides/sysroot.mount" \
        || dfatal_and_stop "cvm-unlock: could not write sysroot.mount"
    cvm_unlock_require initrd-root-device.target "$units/cvm-unlock.service"
    cvm_unlock_require initrd-root-fs.target "$overrides/sysroot.mount"
    # sysroot.mount binds to this device from the first second of the initrd; systemd's 90 s would cut off a slow
    # unlock. The bound is the unlock unit's own, and half a minute for udev.
    mkdir -p "$initdir$overrides/dev-mapper-root.device.d"
    printf '[Unit]\nJobRunningTimeoutSec=330\n' > "$initdir$overrides/dev-mapper-root.device.d/50-cvm-unlock.conf"

    cvm_unlock_phases
    cvm_unlock_modules_load
    cvm_unlock_mask
}

# The units of systemd that extend PCRs before us (`enter-initrd` into PCR 11; from systemd 261 on `os-separator` into
# most others). dracut's own modules for them (systemd-pcrphase up to 106, systemd-pcrextend later) bring a command-line
# TPM tool, libcurl and more with them: 17 MB. The helper itself needs five small libraries.
cvm_unlock_phases() {
    local unit units=$systemdsystemunitdir
    inst_multiple -o "$systemdutildir/systemd-pcrextend" "$systemdutildir/systemd-pcrphase"
    for unit in systemd-pcrphase-initrd.service systemd-pcrosseparator.service; do
        # One is wanted by the initrd's target, the other by every system's; conditions keep it to the initrd.
        inst_multiple -o "$units/$unit" "$units/initrd.target.wants/$unit" "$units/sysinit.target.wants/$unit"
    done
    inst_libdir_file "libtss2-esys.so*" "libtss2-mu.so*" "libtss2-rc.so*" "libtss2-sys.so*" "libtss2-tcti-device.so*"
}

# Loaded while we wait for the disk, instead of when the mapping is made.
cvm_unlock_modules_load() {
    mkdir -p "$initdir/usr/lib/modules-load.d"
    printf 'dm_crypt\nxts\n' > "$initdir/usr/lib/modules-load.d/cvm-unlock.conf"
}

# Everything else that would open the root volume, ask for a passphrase or give a shell.
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

# Makes a target require a unit, as `systemctl add-requires` does (which some versions refuse on masked roots).
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
