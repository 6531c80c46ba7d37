#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Boots a stock kernel in QEMU and runs a command in it as root.
#
# Usage: run.sh --kernel VERSION [OPTION]... -- COMMAND [ARG]...
#
#   --kernel VERSION       as for kernel.sh: 6.12, 7.3, ..., newest
#   --memory SIZE          memory of the guest (2G)
#   --cpus N               CPUs of the guest (2)
#   --timeout SECONDS      for all of it, boot included (300)
#   --add FILE[:PATH]      put a file or directory into the guest, at the same path or at PATH
#   --program NAME         put the host's program NAME into the guest
#   --module "NAME [P=V]"  load a kernel module, after the ones always loaded (see below)
#   --env NAME=VALUE       set a variable for COMMAND
#   --result FILE          what COMMAND writes to $UBLK_RESULT in the guest lands in FILE
#   --console FILE         keep the kernel's log in FILE
#   --qemu-plugin PLUGIN   load a plugin of QEMU's emulation; the kernel is where its symbols say
#   --icount               count instructions: one of them takes one nanosecond of guest time
#
# ELF files bring their shared libraries along. Programs not added are busybox's, so a script that
# needs bash needs "--program bash". The guest has no network but lo, and no disk: / and /tmp are
# in memory.
#
# stdout gets what COMMAND writes to stdout and stderr, after one line on the guest. Exit status:
#
#   COMMAND's   when it ran to its end and the kernel had no complaint
#   70          it ended with 0 but the kernel complained, or the kernel died under it
#   124         no end within the time
#   125         it could not be started, as stderr tells
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Where modprobe and mkfs are; not every user has it.
PATH+=:/usr/sbin:/sbin

default_modules=(ublk_drv loop)

# What counts as a complaint. A user program's fault ("traps: ... general protection fault ip:")
# is not the kernel's.
complaints='BUG:|WARNING:|Oops|KASAN|UBSAN:|general protection fault(,|:)|Kernel panic'
complaints+='|hung task|blocked for more than'
# What a kernel is known to say for no fault of its users, by version, file and line. 7.3.4: two
# cancel the same command, as STOP_DEV and the end of a ring do; the second looks without the lock
# and finds that the first has the command already.
known_complaints='ublk_drv\.c:2929 at ublk_ch_uring_cmd.*7\.3\.4'

die() {
    printf 'run.sh: %s\n' "$*" >&2
    exit 125
}

usage() {
    sed -n '/^# Usage:/,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 125
}

parse_options() {
    kernel='' memory=2G cpus=2 limit=300 result='' console='' icount=no plugin=''
    adds=() programs=() modules=("${default_modules[@]}") variables=()
    while (($#)) && [[ $1 != -- ]]; do
        case $1 in
        --icount) icount=yes; shift; continue ;;
        --kernel | --memory | --cpus | --timeout | --add | --program | --module | --env) ;&
        --result | --console | --qemu-plugin) (($# >= 2)) || die "$1 needs a value" ;;
        --help) usage ;;
        *) die "unknown option $1 (COMMAND comes after --)" ;;
        esac
        case $1 in
        --kernel) kernel=$2 ;;
        --memory) memory=$2 ;;
        --cpus) cpus=$2 ;;
        --timeout) limit=$2 ;;
        --add) adds+=("$2") ;;
        --program) programs+=("$2") ;;
        --module) modules+=("$2") ;;
        --env) variables+=("$2") ;;
        --result) result=$2 ;;
        --console) console=$2 ;;
        --qemu-plugin) plugin=$2 ;;
        esac
        shift 2
    done
    [[ -n $kernel && ${1-} == -- && $# -ge 2 ]] || usage
    shift
    command=("$@")
}

check_options() {
    local v
    [[ $cpus =~ ^[1-9][0-9]*$ && $limit =~ ^[1-9][0-9]*$ ]] || die "--cpus and --timeout: a number"
    for v in ${variables[@]+"${variables[@]}"}; do
        [[ $v =~ ^[A-Za-z_][A-Za-z_0-9]*= ]] || die "--env $v: not NAME=VALUE"
    done
    for v in ${result:+"$result"} ${console:+"$console"}; do
        : >"$v" || die "cannot write $v"
    done
}

check_tools() {
    local tool
    for tool in qemu-system-x86_64 busybox cpio ldd modprobe xz zstd timeout; do
        command -v "$tool" >/dev/null || die "no $tool: run packages.sh guest"
    done
    busybox=$(command -v busybox)
    # The guest's first program runs before there is a library.
    [[ $(ldd "$busybox" 2>&1) == *'not a dynamic executable'* ]] ||
        die "$busybox is not static: run packages.sh guest"
}

# A word as a POSIX shell reads it back.
quote() {
    printf "'%s'" "${1//\'/\'\\\'\'}"
}

stage_skeleton() {
    mkdir -p "$root"/{dev,proc,sys,run,tmp,root,etc/guest,mnt,var/tmp} \
        "$root"/usr/{bin,sbin,lib,lib64,local/bin,local/lib}
    local d
    for d in bin sbin lib lib64; do ln -s "usr/$d" "$root/$d"; done
    ln -s /run "$root/var/run"
    ln -s /proc/mounts "$root/etc/mtab"
    cp -L "$busybox" "$root/bin/busybox"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' \
        >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    printf '127.0.0.1 localhost guest\n' >"$root/etc/hosts"
    # Libraries outside the default directories are found through it.
    copy_if_there /etc/ld.so.cache /etc/mke2fs.conf
}

# All at once: a process for each file would take longer than the copying.
copy_if_there() {
    local f
    local -a there=()
    for f in "$@"; do
        if [[ -e $f ]]; then there+=("$f"); fi
    done
    ((${#there[@]} == 0)) || cp -L --parents -t "$root" -- "${there[@]}"
}

stage_programs() {
    local name path
    for name in "${programs[@]}"; do
        path=$(type -P "$name") || die "--program $name: not on this host"
        path=$(realpath -s "$path")
        files+=("$path")
        case ${path%/*} in
        /bin | /sbin | /usr/bin | /usr/sbin | /usr/local/bin | /usr/local/sbin) ;;
        *) ln -s "$path" "$root/usr/local/bin/${path##*/}" ;;
        esac
    done
}

stage_adds() {
    local add from to
    for add in ${adds[@]+"${adds[@]}"}; do
        from=$add to=
        [[ $add == *:/* ]] && from=${add%:/*} to=/${add##*:/}
        [[ -e $from ]] || die "--add $from: no such file"
        from=$(realpath -s "$from")
        if [[ -z $to ]]; then
            to=$from
        elif [[ $to == */ ]]; then
            to+=${from##*/}
        fi
        mkdir -p "$root$(dirname "$to")"
        if [[ -d $from ]]; then
            mkdir -p "$root$to"
            cp -a "$from/." "$root$to/" || die "--add $from: cannot copy"
            mapfile -t -d '' -O "${#elves[@]}" elves < \
                <(find "$from" -type f \( -perm /111 -o -name '*.so*' \) -print0)
        else
            cp -L --preserve=mode "$from" "$root$to" || die "--add $from: cannot copy"
            elves+=("$from")
        fi
    done
}

# The libraries of all files in one go; ldd complains of what is not ELF or is static, and may.
stage_libraries() {
    local library
    local -a libraries
    ldd -- "${files[@]}" ${elves[@]+"${elves[@]}"} >"$work/ldd" 2>/dev/null || true
    if grep -q 'not found' "$work/ldd"; then
        grep 'not found' "$work/ldd" >&2
        die "a library is missing on this host"
    fi
    # libc opens libgcc_s by name when a thread is cancelled.
    mapfile -t libraries < <(awk '
        function found(path) { if (!seen[path]++) print path }
        $2 == "=>" && $3 ~ /^\// { found($3) }
        $1 ~ /^\// && $2 ~ /^\(/ { found($1) }
        $1 == "libc.so.6" { sub(/libc\.so\.6$/, "libgcc_s.so.1", $3); found($3) }' "$work/ldd")
    copy_if_there "${files[@]}" "${libraries[@]}"
    # A library of one's own may be where the guest has something else: /tmp, for one.
    for library in "${libraries[@]}"; do
        case $library in
        /lib*/* | /usr/lib*/*) ;;
        *) cp -L "$library" "$root/usr/local/lib/" ;;
        esac
    done
}

# Writes etc/guest/modules: one "PATH PARAMETERS" a line, in the order to load them.
stage_modules() {
    local module name release kind path parameters
    local -A listed=()
    local -a list=()
    release=$(cd "$kernel_dir/lib/modules" && printf '%s' *)
    mkdir -p "$root/lib/modules"
    for module in "${modules[@]}"; do
        name=${module%% *} parameters=${module#"$name"}
        # An empty configuration: the host's may hold options for, or forbid, these very modules.
        modprobe -C /dev/null -d "$kernel_dir" -S "$release" --show-depends "$name" \
            >"$work/depends" 2>&1 || { cat "$work/depends" >&2; die "no module $name in $release"; }
        while read -r kind path _; do
            # What is built in has another kind.
            [[ $kind == insmod && -z ${listed[$path]-} ]] || continue
            listed[$path]=1
            unpack_module "$path"
            list+=("$unpacked")
        done <"$work/depends"
        # Parameters are for the module asked for, which comes last.
        if [[ -n $parameters ]]; then
            [[ ${list[-1]-} == "$unpacked" && ${unpacked##*/} == "${name//-/_}.ko" ]] ||
                die "--module $module: built in or asked for twice, so takes no parameters"
            list[-1]+=$parameters
        fi
    done
    printf '%s\n' ${list[@]+"${list[@]}"} >"$root/etc/guest/modules"
}

unpack_module() {
    local path=$1 name=${1##*/}
    name=${name%%.ko*}
    unpacked=/lib/modules/${name//-/_}.ko
    case $path in
    *.xz) xz -dc "$path" ;;
    *.zst) zstd -qdc "$path" ;;
    *) cat "$path" ;;
    esac >"$root$unpacked"
}

# Through a shell other than busybox's: that one prefers its own applets to programs of the same
# name, whatever PATH says.
write_command() {
    local word
    {
        printf 'ulimit -c 0\nulimit -l unlimited\n'
        for word in ${variables[@]+"${variables[@]}"}; do
            printf 'export %s=%s\n' "${word%%=*}" "$(quote "${word#*=}")"
        done
        printf 'exec'
        for word in "${command[@]}"; do printf ' %s' "$(quote "$word")"; done
        printf '\n'
    } >"$root/etc/guest/command"
}

write_init() {
    cat >"$root/init" <<'END'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys
mkdir -p /dev/shm /dev/pts /dev/virtio-ports
mount -t tmpfs -o mode=1777 tmp /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs run /run
mount -t devpts pts /dev/pts
mount -t debugfs debug /sys/kernel/debug
mkdir -p /run/lock
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
# Existing files stay: what was added goes before an applet.
busybox --install -s /bin 2>/dev/null

set_to() { [ -w "$2" ] && echo "$1" >"$2"; }
set_to guest /proc/sys/kernel/hostname
# From here on the log has all but debug messages; the boot's are of no interest.
set_to 7 /proc/sys/kernel/printk
set_to 60 /proc/sys/kernel/hung_task_timeout_secs
set_to 10 /proc/sys/kernel/hung_task_check_interval_secs
# An emulated CPU on a busy host may well stand still for 20 seconds.
set_to 30 /proc/sys/kernel/watchdog_thresh
# Sanitizers reserve terabytes, and older ones fail with more randomness than this.
set_to 1 /proc/sys/vm/overcommit_memory
set_to 28 /proc/sys/vm/mmap_rnd_bits
ifconfig lo 127.0.0.1 up

export HOME=/root TERM=dumb LANG=C.UTF-8 UBLK_RESULT=/dev/virtio-ports/result
export LD_LIBRARY_PATH=/usr/local/lib
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
. /etc/guest/facts

# Where tasks hang is worth knowing when the host's patience is about to end.
[ "$GUEST_LIMIT" -ge 30 ] &&
    { sleep $((GUEST_LIMIT - 10)); echo w >/proc/sysrq-trigger; } </dev/null >/dev/null 2>&1 &

# The host tells the ports' names some time after the device is there.
tries=0
while :; do
    for port in /sys/class/virtio-ports/*; do
        read -r name <"$port/name" && ln -sf "../${port##*/}" "/dev/virtio-ports/$name"
    done 2>/dev/null
    [ -e /dev/virtio-ports/output ] && [ -e /dev/virtio-ports/status ] &&
        [ -e /dev/virtio-ports/result ] && break
    tries=$((tries + 1))
    [ $tries -gt 6000 ] && break
    usleep 10000
done

end() {
    # A process left behind may hold the pipe open: cat is not waited for without limit.
    exec 3>&-
    { sleep 20; kill $cat; } 2>/dev/null &
    wait $cat
    echo "$1" >/dev/virtio-ports/status
    # No orderly shutdown: it could hang on a dead ublk device.
    echo b >/proc/sysrq-trigger
    sleep 60
}

# A port can be opened only once at a time; a pipe has no such limit.
mkfifo /run/output
cat /run/output >/dev/virtio-ports/output &
cat=$!
exec 3>/run/output

while read -r module parameters; do
    insmod "$module" $parameters >&3 2>&1 || { echo "cannot load $module" >&3; end 125; }
done </etc/guest/modules

read -r release </proc/sys/kernel/osrelease
echo "guest: Linux $release, $(nproc) CPUs, $GUEST_ACCEL" >&3
cd /root
/bin/dash /etc/guest/command </dev/null >&3 2>&1 3>&-
end $?
END
    chmod 755 "$root/init"
    printf 'GUEST_LIMIT=%s\nGUEST_ACCEL=%s\n' "$limit" "$(quote "$accel")" \
        >"$root/etc/guest/facts"
}

build_initramfs() {
    local shell
    root=$work/root files=() elves=()
    shell=$(type -P dash) || die "no dash on this host"
    files+=("$shell")
    stage_skeleton
    stage_programs
    stage_adds
    stage_libraries
    [[ -e $root/bin/dash ]] || cp -L "$shell" "$root/bin/dash"
    [[ -e $root/bin/sh ]] || ln -s dash "$root/bin/sh"
    stage_modules
    write_command
    write_init
    (cd "$root" && find . -print0 | cpio --null --create --format newc --quiet \
        --owner +0:+0) >"$work/initramfs"
    rm -rf "$root"
}

# Two faults of QEMU's emulation before 8.1 crash guests at random: cmpxchg16b leaves wrong flags
# (with 6.12 one boot in five died of it), and a CPU may go on with code that another one has just
# patched (seen once, with 7.3). Counts of instructions are comparable only within one QEMU.
emulation_is_faulty() {
    local version
    version=$(qemu-system-x86_64 --version | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p')
    [[ $(printf '%s\n' "$version" 8.1 | sort -V | head -n 1) != 8.1 ]]
}

choose_acceleration() {
    local cpu=max threads=multi
    if [[ $icount == no ]] && grep -qwE 'vmx|svm' /proc/cpuinfo && { : <>/dev/kvm; } 2>/dev/null
    then
        accel=KVM
        machine=(-accel kvm -cpu host)
        return
    fi
    emulation_is_faulty && cpu+=,-cx16 threads=single
    if [[ $icount == yes ]]; then
        # One byte of a "rep movsb" would count as one instruction: have none of them.
        accel='TCG, instructions counted'
        machine=(-accel 'tcg,thread=single' -icount 'shift=0,sleep=off' -cpu "$cpu,-erms,-fsrm")
    else
        accel="TCG, $threads-threaded"
        machine=(-accel "tcg,thread=$threads" -cpu "$cpu")
    fi
}

port() {
    qemu+=(-chardev "file,id=$1,path=$work/$1" -device "virtserialport,chardev=$1,name=$1")
}

start_guest() {
    local image=$kernel_dir/vmlinux
    [[ -e $image ]] || image=$kernel_dir/vmlinuz
    # random.trust_cpu: or the first program that asks for random numbers waits.
    # no_timer_check, tsc=reliable: their checks fail now and then when the host is busy.
    # cryptomgr.notests: half a second of boot under emulation.
    local append="console=ttyS0 quiet panic=-1 oops=panic mitigations=off tsc=reliable"
    append+=" no_timer_check random.trust_cpu=on cryptomgr.notests"
    qemu=(qemu-system-x86_64 "${machine[@]}" -smp "$cpus" -m "$memory" -nodefaults -no-user-config
        -display none -no-reboot -net none -kernel "$image" -initrd "$work/initramfs"
        ${plugin:+-plugin "$plugin"} -append "$append${plugin:+ nokaslr}"
        -serial "file:$work/console" -device 'virtio-serial-pci,ioeventfd=off')
    port output
    port status
    port result
    : >"$work/output"
    timeout -s KILL "$limit" "${qemu[@]}" </dev/null >"$work/qemu.log" 2>&1 &
    guest=$! began=$SECONDS
    tail -c +1 -f -s 0.05 --pid="$guest" "$work/output" &
    stream=$!
}

# Ends what was started here. timeout leads a process group with QEMU in it, unless it was started
# just now: then it is alone.
stop_guest() {
    [[ -n ${guest-} ]] &&
        { kill -KILL -- "-$guest" || kill -TERM "$guest"; } 2>/dev/null &&
        wait "$guest" 2>/dev/null
    [[ -n ${stream-} ]] && wait "$stream" 2>/dev/null
    guest='' stream=''
}

clean_up() {
    stop_guest || true
    rm -rf "$work"
}

interrupted() {
    trap - EXIT INT TERM HUP
    clean_up
    exit $((128 + $1))
}

show_console() {
    printf 'run.sh: %s; the end of the kernel log:\n' "$1" >&2
    tail -n 80 "$work/console" 2>/dev/null | tr -d '\r' | sed 's/^/    /' >&2
}

judge() {
    local ended=$1 status=''
    [[ -s $work/status ]] && read -r status <"$work/status"
    if [[ -z $status && $ended == 137 ]] && ((SECONDS - began >= limit)); then
        show_console "no end within $limit seconds"
        return 124
    elif [[ -z $status && ! -s $work/console && $ended != 0 ]]; then
        cat "$work/qemu.log" >&2
        die "QEMU failed"
    elif [[ -z $status ]]; then
        show_console "the guest ended before the command"
        return 70
    fi
    grep -aE "$complaints" "$work/console" | tr -d '\r' | sed "s/$/ (Linux ${kernel_dir##*/})/" \
        >"$work/complaints" || true
    if grep -E "$known_complaints" "$work/complaints" >"$work/known"; then
        printf 'run.sh: the kernel complained, as it is known to:\n' >&2
        sed 's/^/    /' "$work/known" >&2
    fi
    if grep -vE "$known_complaints" "$work/complaints" >"$work/unknown"; then
        printf 'run.sh: the kernel complained:\n' >&2
        sed 's/^/    /' "$work/unknown" >&2
        [[ $status != 0 ]] || status=70
    fi
    return "$status"
}

run_guest() {
    local ended=0 status=0
    start_guest
    # bash would report the kill.
    { wait "$guest" || ended=$?; } 2>/dev/null
    guest=''
    wait "$stream" || true
    stream=''
    if [[ -n $result ]]; then cp "$work/result" "$result"; fi
    if [[ -n $console ]]; then cp "$work/console" "$console"; fi
    judge "$ended" || status=$?
    exit "$status"
}

main() {
    parse_options "$@"
    check_options
    check_tools
    kernel_dir=$("$here/kernel.sh" "$kernel") || die "no kernel $kernel"
    choose_acceleration
    work=$(mktemp -d "${TMPDIR:-/tmp}/ublk-guest.XXXXXX")
    trap clean_up EXIT
    trap 'interrupted 1' HUP
    trap 'interrupted 2' INT
    trap 'interrupted 15' TERM
    build_initramfs
    run_guest
}

main "$@"
