# shellcheck shell=bash
# What the build needs from the distribution: tools, and the libraries that are linked
# as Debian built them.
#
# shellcheck disable=SC2154 # log is sysroot/build's

host_install_missing() {
    local missing
    missing=$(host_missing)
    [[ -n $missing ]] || return 0
    # shellcheck disable=SC2086 # a list of package names
    set -- $missing
    if [[ $EUID -ne 0 ]]; then
        die "run as root: apt-get install --no-install-recommends $*"
    fi
    mkdir -p "$log"
    step apt-update apt-get -o DPkg::Lock::Timeout=300 update
    step apt-install env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
        install --yes --no-install-recommends "$@"
}

host_missing() {
    local installed
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${HOST_PACKAGES[@]}" 2>/dev/null |
        sed -n 's/^installed //p') || true
    printf '%s\n' "${HOST_PACKAGES[@]}" | grep -vxFf <(echo "$installed") || true
}

readonly HOST_PACKAGES=(
    # compilers and build systems; libclang is for the bindings generator of the crates
    gcc libc6-dev make dpkg-dev pkg-config libclang-dev
    autoconf autoconf-archive automake libtool libltdl-dev meson ninja-build
    # linked statically, as Debian built them
    libjson-c-dev uuid-dev
    # asked for by cryptsetup's meson.build, also when only the library is built
    libpopt-dev
)
