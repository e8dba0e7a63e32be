#!/bin/bash
# shellcheck disable=SC2154  # dracut sets them
# For tests only: runs the test's own scripts beside the unlocker. Never part of an image that is shipped.

check() { return 255; }
depends() { echo systemd-initrd udev-rules; }

install() {
    inst_simple "$moddir/cvm-probe" /usr/bin/cvm-probe
    local unit
    for unit in cvm-probe-before cvm-probe-after cvm-probe-beside; do
        inst_simple "$moddir/$unit.service" "$systemdsystemunitdir/$unit.service"
        mkdir -p "$initdir/etc/systemd/system/initrd.target.wants"
        ln -sf "$systemdsystemunitdir/$unit.service" "$initdir/etc/systemd/system/initrd.target.wants/"
    done
    inst_multiple sh tar cat date kill sleep dmsetup systemctl inotifywait blkid \
        tpm2 tpm2_pcrread tpm2_load tpm2_unseal tpm2_startauthsession tpm2_policypcr tpm2_flushcontext tpm2_getcap
    inst_libdir_file "libtss2-tcti-device.so*"
}
