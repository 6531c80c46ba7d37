# SPDX-License-Identifier: MIT
#
# Packages of the archive that the host uses, out of suites that it need not have. To be sourced.
#
# Nothing is installed on the host: apt gets private state in the cache directory, which is
# ${UBLK_CACHE:-<repo>/build/guest}, and its signature checks stay on.
#
# shellcheck shell=bash

archive_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# How long the archive's package lists are believed.
lists_minutes=720
# How long to wait for another run, which may be fetching a kernel.
lock_seconds=1800

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

os_field() {
    # A subshell, since the file sets names like VERSION.
    # shellcheck source=/dev/null
    (. /etc/os-release && printf '%s' "${!1-}")
}

distribution=$(os_field ID || true)

# Sets $cache.
open_cache() {
    cache=${UBLK_CACHE:-$archive_here/../../build/guest}
    mkdir -p "$cache"
    cache=$(cd "$cache" && pwd)
}

# Two may ask for the same at once; the second then finds what the first has fetched.
lock_cache() {
    exec 9>"$cache/lock"
    flock -w "$lock_seconds" 9 || die "$cache/lock is held by another run"
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

# A stanza of apt's sources for one suite of that archive.
suite_source() {
    local archive
    archive=$(host_archive)
    [[ -n $archive ]] || die "no archive of this release found in /etc/apt"
    printf 'Types: deb\nSuites: %s\nComponents: main\n%s\n' "$1" "$archive"
}

# apt's private state for one suite. Everything is in a file given with -c, because that is read
# after the host's own settings, whose hooks must not run here.
make_state() {
    local suite=$1 state=$cache/apt/$1
    mkdir -p "$state"/{sources,lists/partial,cache/archives/partial}
    : >"$state/status"
    {
        if [[ $suite != host ]]; then
            suite_source "$suite" >"$state/sources/suite.sources"
            printf 'Targets: Packages\n' >>"$state/sources/suite.sources"
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
    printf '%s: upgrading debian-archive-keyring\n' "${0##*/}" >&2
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

complain_of_failed() {
    local suite
    for suite in "$@"; do
        [[ -r $cache/apt/$suite/names ]] && continue
        printf '%s: suite %s cannot be read:\n' "${0##*/}" "$suite" >&2
        tail -n 5 "$cache/apt/$suite/update.log" | sed 's/^/    /' >&2
    done
}

# Into a directory, with a log beside them.
download_packages() { # SUITE DIRECTORY NAME...
    local suite=$1 to=$2
    shift 2
    (cd "$to" && apt-get -c "$cache/apt/$suite/apt.conf" -q download "$@") >"$to/log" 2>&1
}
