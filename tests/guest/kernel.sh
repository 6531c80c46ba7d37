#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Fetches a stock distribution kernel and prints the directory that holds it:
#
#   DIR/vmlinuz                    the image as the distribution ships it
#   DIR/vmlinux                    the same, uncompressed (only where it can be booted through PVH)
#   DIR/config                     its configuration, where the packages have it
#   DIR/lib/modules/RELEASE/...    its modules, still compressed, with modules.dep
#
# Usage: kernel.sh [--refresh] VERSION    6.12, 7.3, ... (newest patch level on offer), or "newest"
#        kernel.sh --list                 what is on offer: version, release, suite
#        kernel.sh --headers              prints the include directory of the newest linux-libc-dev
#
# Nothing is installed on the host: apt gets private state in the cache directory, so that suites
# the host does not use can be looked at, and its signature checks stay on. A version once fetched
# is served from the cache, without a look at the network, until --refresh asks for a newer one.
# The cache is ${UBLK_CACHE:-<repo>/build/guest}.
#
# Debian is what this is tested on. The Ubuntu branch uses the suites the host is configured with
# (base and HWE kernels) and has not been tried.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Where depmod is; not every user has it.
PATH+=:/usr/sbin:/sbin

# Debian's suites whose kernels have ublk_drv. Codenames, as "newest" must mean the same to all.
debian_suites=(bookworm-backports trixie trixie-backports forky sid)
debian_newest=trixie-backports

# How long the archive's package lists are believed.
lists_minutes=720

die() {
    printf 'kernel.sh: %s\n' "$*" >&2
    exit 1
}

usage() {
    sed -n '/^# Usage:/,/^#$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 1
}

os_field() {
    # A subshell, since the file sets names like VERSION.
    # shellcheck source=/dev/null
    (. /etc/os-release && printf '%s' "${!1-}")
}

# Prints the archive the host itself uses, as the lines of a deb822 stanza without its suite.
# "found" is the first binary stanza that carries the host's own release.
host_archive() {
    local release
    release="stable oldstable testing unstable sid $(os_field VERSION_CODENAME)"
    local -a deb822=() oneline=()
    local f
    for f in /etc/apt/sources.list.d/*.sources; do [[ -r $f ]] && deb822+=("$f"); done
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [[ -r $f ]] && oneline+=("$f")
    done
    {
        ((${#deb822[@]})) && awk -v RS= -v known="$release" '
            BEGIN { n = split(known, k, " "); for (i = 1; i <= n; i++) want[k[i]] = 1 }
            function known_suite(v,    a, i, n) {
                n = split(v, a, " ")
                for (i = 1; i <= n; i++) if (a[i] in want) return 1
                return 0
            }
            {
                split("", field); name = ""
                n = split($0, line, "\n")
                for (i = 1; i <= n; i++) {
                    if (line[i] ~ /^#/) continue
                    if (line[i] ~ /^[ \t]/) { field[name] = field[name] "\n" line[i]; continue }
                    colon = index(line[i], ":")
                    name = tolower(substr(line[i], 1, colon - 1))
                    value = substr(line[i], colon + 1)
                    sub(/^[ \t]+/, "", value)
                    field[name] = value
                }
                if (field["types"] !~ /(^|[ \t])deb([ \t]|$)/) next
                if (tolower(field["enabled"]) == "no" || !known_suite(field["suites"])) next
                print "URIs: " field["uris"]
                if ("signed-by" in field) print "Signed-By: " field["signed-by"]
                if ("trusted" in field) print "Trusted: " field["trusted"]
                exit
            }' "${deb822[@]}"
        ((${#oneline[@]})) && awk -v known="$release" '
            BEGIN { n = split(known, k, " "); for (i = 1; i <= n; i++) want[k[i]] = 1 }
            /^[ \t]*deb[ \t]/ {
                options = ""
                if (match($0, /\[[^]]*\]/)) {
                    options = substr($0, RSTART + 1, RLENGTH - 2)
                    $0 = substr($0, 1, RSTART - 1) substr($0, RSTART + RLENGTH)
                }
                if (!($3 in want)) next
                print "URIs: " $2
                n = split(options, o, " ")
                for (i = 1; i <= n; i++) {
                    value = substr(o[i], index(o[i], "=") + 1); gsub(/,/, " ", value)
                    if (o[i] ~ /^signed-by=/) print "Signed-By: " value
                    if (o[i] ~ /^trusted=/) print "Trusted: " value
                }
                exit
            }' "${oneline[@]}"
        true
    } | awk '/^URIs:/ && seen++ { exit } { print }'
}

# apt's private state for one suite. Everything is in a file given with -c, because that is read
# after the host's own settings, whose hooks must not run here.
make_state() {
    local suite=$1 state=$cache/apt/$1 archive
    mkdir -p "$state"/{sources,lists/partial,cache/archives/partial}
    : >"$state/status"
    {
        if [[ $suite != host ]]; then
            archive=$(host_archive)
            [[ -n $archive ]] || die "no archive of this release found in /etc/apt"
            printf 'Types: deb\nSuites: %s\nComponents: main\nTargets: Packages\n%s\n' \
                "$suite" "$archive" >"$state/sources/suite.sources"
            printf 'Dir::Etc::sourcelist "/dev/null";\n'
            printf 'Dir::Etc::sourceparts "%s";\n' "$state/sources"
        fi
        cat <<END
Dir::State::lists "$state/lists";
Dir::State::status "$state/status";
Dir::Cache "$state/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Dir::Log "$state";
APT::Architecture "amd64";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "3";
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
END
    } >"$state/apt.conf"
}

update_suite() {
    local suite=$1 force=$2 state=$cache/apt/$1
    [[ $force == no && -n $(find "$state/updated" -mmin "-$lists_minutes" 2>/dev/null) ]] && return
    make_state "$suite"
    rm -f "$state/updated" "$state/names"
    # apt-get can report success with a suite's signature or index missing; Error-Mode makes it
    # say so. Without its index a suite offers nothing, as complain_of_failed() tells.
    apt-get -c "$state/apt.conf" -o APT::Update::Error-Mode=any -q update \
        >"$state/update.log" 2>&1 || return 0
    apt-cache -c "$state/apt.conf" pkgnames linux- >"$state/names.new"
    mv "$state/names.new" "$state/names"
    touch "$state/updated"
}

update_lists() {
    local force=$1 suite
    shift
    for suite in "$@"; do update_suite "$suite" "$force" & done
    wait
}

# A host older than the suite may lack the key that signs it.
lacks_key() {
    local suite
    for suite in "$@"; do
        grep -qs 'NO_PUBKEY\|Missing key' "$cache/apt/$suite/update.log" && return 0
    done
    return 1
}

upgrade_keyring() {
    local log=$cache/apt/keyring.log
    ((EUID == 0)) || die "the archive's keyring is too old; as root: apt-get install" \
        "debian-archive-keyring"
    printf 'kernel.sh: upgrading debian-archive-keyring\n' >&2
    { apt-get -q update && DEBIAN_FRONTEND=noninteractive \
        apt-get -qy --no-install-recommends install debian-archive-keyring; } >"$log" 2>&1 ||
        { cat "$log" >&2; die "cannot upgrade debian-archive-keyring"; }
}

refresh_lists() {
    update_lists "$@"
    shift
    if [[ $distribution == debian ]] && lacks_key "$@"; then
        upgrade_keyring
        update_lists yes "$@"
    fi
}

# "RELEASE SUITE" for every kernel on offer in these suites, oldest first.
offers() {
    local suite
    for suite in "$@"; do
        [[ -r $cache/apt/$suite/names ]] || continue
        sed -nE "s/^linux-image-(unsigned-)?([0-9].*-(cloud-amd64|generic))\$/\2 $suite/p" \
            "$cache/apt/$suite/names"
    done | sort -u | sort -V
}

complain_of_failed() {
    local suite
    for suite in "$@"; do
        [[ -r $cache/apt/$suite/names ]] && continue
        printf 'kernel.sh: suite %s cannot be read:\n' "$suite" >&2
        tail -n 5 "$cache/apt/$suite/update.log" | sed 's/^/    /' >&2
    done
}

list_offers() {
    refresh_lists no "${suites[@]}"
    complain_of_failed "${suites[@]}"
    # The last of each X.Y is the newest, as they come sorted.
    offers "${suites[@]}" | awk '{
        split($1, part, /[.+-]/); key = part[1] "." part[2]
        if (!(key in line)) order[++n] = key
        line[key] = sprintf("%-6s %-32s %s", key, $1, $2)
    } END { for (i = 1; i <= n; i++) print line[order[i]] }'
}

# The newest offer for a version, as "RELEASE SUITE".
choose() {
    local version=$1 release suite choice=
    shift
    while read -r release suite; do
        case $version:$release in
        newest:* | "$version:$version" | "$version:$version"[.+-]*) choice="$release $suite" ;;
        esac
    done < <(offers "$@")
    printf '%s' "$choice"
}

# Kernels have been packaged in several ways: one package with all of it, image and modules apart,
# and the files both need in a third. So: whatever the archive has of these for the release.
packages_of() {
    local release=$1 suite=$2 names
    names=$(grep -Fx -e "linux-base-$release" -e "linux-binary-$release" \
        -e "linux-image-$release" -e "linux-image-unsigned-$release" \
        -e "linux-modules-$release" -e "linux-modules-extra-$release" \
        "$cache/apt/$suite/names")
    if grep -qFx "linux-image-$release" <<<"$names"; then
        names=$(grep -v '^linux-image-unsigned-' <<<"$names")
    fi
    printf '%s\n' "$names"
}

# The uncompressed image starts a second sooner under emulation, as the guest need not unpack it.
# Going without is no fault.
make_vmlinux() {
    local dir=$1 tool magic offset
    grep -qs '^CONFIG_PVH=y' "$dir/config" || return 0
    for tool in zstd:'\x28\xb5\x2f\xfd' xz:'\xfd7zXZ\x00' lz4:'\x02\x21\x4c\x18' \
        gzip:'\x1f\x8b\x08'; do
        magic=${tool#*:} tool=${tool%%:*}
        command -v "$tool" >/dev/null || continue
        for offset in $(LC_ALL=C grep -aboP "$magic" "$dir/vmlinuz" | head -n 5 | cut -d: -f1); do
            # The tools object to what follows the compressed part; the result tells.
            tail -c "+$((offset + 1))" "$dir/vmlinuz" | "$tool" -dc >"$dir/vmlinux" 2>/dev/null ||
                true
            [[ $(head -c 4 "$dir/vmlinux" | tail -c 3) == ELF ]] && return 0
        done
    done
    rm -f "$dir/vmlinux"
}

first_of() {
    local f
    for f in "$@"; do [[ -e $f ]] && { printf '%s' "$f"; return; }; done
    return 1
}

# Lays the unpacked packages out in their final form.
arrange() {
    local release=$1 x=$2 dir=$3 f
    mkdir -p "$dir/lib/modules/$release"
    # Some tools look for modules under usr/lib.
    ln -s . "$dir/usr"
    for f in "$x/lib/modules/$release" "$x/usr/lib/modules/$release"; do
        [[ -d $f ]] && cp -al "$f/." "$dir/lib/modules/$release/"
    done
    f=$(first_of "$x/boot/vmlinuz-$release" "$dir/lib/modules/$release/vmlinuz") ||
        die "the packages of $release have no vmlinuz"
    cp "$f" "$dir/vmlinuz"
    rm -f "$dir/lib/modules/$release/vmlinuz"
    f=$(first_of "$x/boot/config-$release" "$dir/lib/modules/$release/config") &&
        cp "$f" "$dir/config"
    [[ -n $(find "$dir/lib/modules" -name 'ublk_drv.ko*') ]] || die "$release has no ublk_drv"
    depmod -b "$dir" "$release"
    make_vmlinux "$dir"
}

download() {
    local release=$1 suite=$2 to=$3
    local -a names
    mapfile -t names < <(packages_of "$release" "$suite")
    (cd "$to" && apt-get -c "$cache/apt/$suite/apt.conf" -q download "${names[@]}") \
        >"$to/log" 2>&1
}

# Downloads the newest offer for a version into $new and names it in $release; fails when there is
# none, or when it cannot be had.
obtain() {
    local version=$1 force=$2 choice suite
    shift 2
    refresh_lists "$force" "$@"
    choice=$(choose "$version" "$@")
    [[ -n $choice ]] || return 1
    read -r release suite <<<"$choice"
    [[ ! -d $kernels/$release ]] || return 0
    printf 'kernel.sh: fetching %s from %s\n' "$release" "$suite" >&2
    download "$release" "$suite" "$new"
}

give_up() {
    local version=$1
    shift
    [[ ! -e $new/log ]] || cat "$new/log" >&2
    complain_of_failed "$@"
    [[ -z $release ]] || die "cannot fetch $release"
    die "no kernel $version on offer (kernel.sh --list tells what is)"
}

# A kernel is made under another name and renamed when complete: what has a release's name is whole.
fetch_version() {
    local version=$1 deb
    local -a in=("${suites[@]}")
    [[ $version == newest && $distribution == debian ]] && in=("$debian_newest")
    rm -rf "$kernels"/.new.*
    new=$(mktemp -d "$kernels/.new.XXXXXX") release=''
    trap 'rm -rf "$new"' EXIT
    # The archive drops a release when the next one is there, so a failure may mean old lists.
    obtain "$version" no "${in[@]}" || obtain "$version" yes "${in[@]}" ||
        give_up "$version" "${in[@]}"
    if [[ ! -d $kernels/$release ]]; then
        for deb in "$new"/*.deb; do dpkg -x "$deb" "$new/x"; done
        arrange "$release" "$new/x" "$new/done"
        sync -f "$new/done"
        mv "$new/done" "$kernels/$release"
    fi
    ln -sfn "$release" "$new/link"
    mv -T "$new/link" "$kernels/$version"
}

# The kernel's own header of the ABI, of the suite that has the newest kernel.
fetch_headers() {
    local suite=host to=$cache/headers
    [[ $distribution == debian ]] && suite=$debian_newest
    refresh_lists no "$suite"
    rm -rf "$to.new"
    mkdir -p "$to.new"
    (cd "$to.new" && apt-get -c "$cache/apt/$suite/apt.conf" -q download linux-libc-dev) \
        >"$to.new/log" 2>&1 || {
        cat "$to.new/log" >&2
        complain_of_failed "$suite"
        die "cannot fetch linux-libc-dev"
    }
    dpkg -x "$to.new"/linux-libc-dev_*.deb "$to.new"
    [[ -e $to.new/usr/include/linux/ublk_cmd.h ]] || die "linux-libc-dev has no ublk_cmd.h"
    mv "$to.new" "$to"
}

check_host() {
    local tool
    [[ $(dpkg --print-architecture 2>/dev/null) == amd64 ]] || die "only for amd64 Debian or Ubuntu"
    for tool in apt-get dpkg depmod flock; do
        command -v "$tool" >/dev/null || die "no $tool: run packages.sh guest"
    done
    distribution=$(os_field ID)
    case $distribution in
    debian) suites=("${debian_suites[@]}") ;;
    ubuntu) suites=(host) ;;
    *) die "no stock kernels known for '$distribution' (only Debian and Ubuntu)" ;;
    esac
}

main() {
    local refresh=no version
    [[ ${1-} == --refresh ]] && { refresh=yes; shift; }
    (($# == 1)) || usage
    version=$1
    cache=${UBLK_CACHE:-$here/../../build/guest}
    mkdir -p "$cache/kernels"
    cache=$(cd "$cache" && pwd)
    kernels=$cache/kernels
    if [[ $version == --headers ]]; then
        if [[ ! -d $cache/headers ]]; then
            check_host
            exec 9>"$cache/lock"
            flock 9
            [[ -d $cache/headers ]] || fetch_headers
        fi
        printf '%s\n' "$cache/headers/usr/include"
        return
    fi
    if [[ $version != --list ]]; then
        [[ $version =~ ^([0-9]+\.[0-9]+[0-9A-Za-z.+~-]*|newest)$ ]] || usage
        if [[ $refresh == no && -e $kernels/$version/vmlinuz ]]; then
            (cd -P "$kernels/$version" && pwd)
            return
        fi
    fi
    check_host
    exec 9>"$cache/lock"
    # Two may ask at once; the second then finds what the first has fetched.
    flock 9
    if [[ $version == --list ]]; then
        list_offers
        return
    fi
    [[ $refresh == yes ]] && rm -f "$cache"/apt/*/updated
    [[ $refresh == no && -e $kernels/$version/vmlinuz ]] || fetch_version "$version"
    (cd -P "$kernels/$version" && pwd)
}

main "$@"
