# shellcheck shell=bash
# Debian source packages of any suite, through a private apt configuration: the
# machine's own sources, lists and preferences are neither used nor touched.
#
# Trusts: the Debian archive keyring. The mirror is only a place to fetch from.
#
# shellcheck disable=SC2154 # out and work are sysroot/build's

# The mirrors that this machine already uses for Debian proper. Apt reads its own
# configuration better than we would; the origin and label come from signed Release
# files, so a third-party archive with a look-alike suite name does not count.
archive_find() {
    mirror=$(archive_mirror Debian)
    if [[ -z $mirror && $EUID -eq 0 ]]; then
        step apt-update apt-get -o DPkg::Lock::Timeout=300 update
        mirror=$(archive_mirror Debian)
    fi
    [[ -n $mirror ]] || die "apt knows no Debian archive (or run apt-get update first)"
    # Optional: without it, stable's security updates arrive with the next point release.
    security_mirror=$(archive_mirror Debian-Security)
    local candidate
    for candidate in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        [[ ! -e $candidate ]] || { keyring=$candidate; return; }
    done
    die "no Debian archive keyring: apt-get install debian-archive-keyring"
}

archive_mirror() {
    # shellcheck disable=SC2016 # apt's own placeholders
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' \
        'Created-By: Packages' |
        awk -F'|' -v label="$1" '$1 == "Debian" && $2 == label && $3 == "main" && !n++ { print $4 }'
}

# archive_fetch PACKAGE MINIMUM SUITE...: unpacks the first suite's version that is new
# enough into $work/source/PACKAGE.
archive_fetch() {
    local package=$1 minimum=$2 suite version
    shift 2
    for suite in "$@"; do
        archive_update "$suite" || { echo "$suite: index not usable, trying the next"; continue; }
        version=$(archive_version "$package") || continue
        if ! dpkg --compare-versions "$version" ge "$minimum"; then
            echo "$suite: $package ${version:-absent} is older than $minimum"
            continue
        fi
        # A mirror may have dropped a version that its index still names.
        archive_unpack "$package" "$version" || { echo "$suite: $package $version: no source"; continue; }
        echo "$package $version ($suite)" >"$work/versions/$package"
        return 0
    done
    echo "no suite of $* has $package >= $minimum"
    return 1
}

# Points APT_CONFIG at a configuration that knows one suite (and its security updates).
archive_update() {
    local suite=$1 root=$out/apt/$1
    mkdir -p "$root"/{sources,preferences,state,lists/partial,cache/archives/partial}
    archive_source "$mirror" "$suite" >"$root/sources/debian.sources"
    if [[ $suite == trixie && -n $security_mirror ]]; then
        archive_source "$security_mirror" trixie-security >>"$root/sources/debian.sources"
    fi
    cat >"$root/apt.conf" <<CONF
Dir::State "$root/state";
Dir::State::Lists "$root/lists";
Dir::Cache "$root/cache";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$root/sources";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "$root/preferences";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
CONF
    # Sid's index lives for a week; a mirror that lags behind still has signed sources.
    if [[ $suite == sid ]]; then
        echo 'Acquire::Check-Valid-Until "false";' >>"$root/apt.conf"
    fi
    export APT_CONFIG=$root/apt.conf
    [[ ! -e $work/updated.$suite ]] || return 0
    apt-get update || return 1
    touch "$work/updated.$suite"
}

archive_source() {
    printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n\n' "$1" "$2" "$keyring"
}

archive_version() {
    local version newest=
    for version in $(apt-cache showsrc --only-source "$1" | sed -n 's/^Version: //p'); do
        if dpkg --compare-versions "$version" gt "$newest"; then newest=$version; fi
    done
    echo "$newest"
}

# Apt checks what it fetches against the signed index; dpkg-source only unpacks.
archive_unpack() {
    local package=$1 version=$2 downloads=$out/download
    mkdir -p "$downloads"
    (cd "$downloads" && apt-get source --download-only --only-source "$package=$version") || return 1
    rm -rf "$work/source/$package"
    dpkg-source --extract "$downloads/${package}_${version#*:}.dsc" "$work/source/$package"
}
