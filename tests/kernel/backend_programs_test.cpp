// SPDX-License-Identifier: MIT
// The example programs that differ from `memory` in their backend alone.
#include "programs.hpp"

#include <gtest/gtest.h>

namespace backend_programs_test {
namespace {

using ublk_test::programs;
using ublk_test::succeeded;

TEST_F(programs, NullReadsZeroes) {
    EXPECT_TRUE(succeeded(script(R"sh(
begin null --size 16M --depth 4
dd if=/dev/urandom of=$disk bs=64k count=16 oflag=direct
dd if=$disk of=/tmp/back bs=64k count=16 iflag=direct
cmp -n 1048576 /dev/zero /tmp/back
finish TERM
)sh")));
}

TEST_F(programs, FileKeepsInItsFileWhatTheDiskIsGiven) {
    EXPECT_TRUE(succeeded(script(R"sh(
dd if=/dev/urandom of=/tmp/data bs=64k count=16
for how in "" "--direct" "--data-path fixed_copy"; do
    rm -f /tmp/image; truncate -s 20M /tmp/image
    begin file --depth 8 $how /tmp/image
    grep -q '^data path: ' $out
    [ $(cat /sys/block/${disk#/dev/}/size) = $((20 * 2048)) ]
    dd if=/tmp/data of=$disk bs=64k conv=fsync
    c=0; command file /tmp/image >/tmp/second 2>&1 || c=$?
    [ $c = 1 ] && grep -q 'another server has a disk in this file' /tmp/second
    finish TERM
    cmp -n 1048576 /tmp/data /tmp/image
done
begin file --read-only /tmp/image
cmp -n 1048576 /tmp/data $disk
if dd if=/dev/zero of=$disk bs=4k count=1 conv=fsync 2>/dev/null; then exit 95; fi
finish INT
rm /tmp/image
)sh")));
}

TEST_F(programs, StripeSpreadsOverItsFiles) {
    EXPECT_TRUE(succeeded(script(R"sh(
dd if=/dev/urandom of=/tmp/data bs=64k count=16
truncate -s 8M /tmp/one /tmp/two /tmp/three
begin stripe --chunk 16K --depth 8 /tmp/one /tmp/two /tmp/three
[ $(cat /sys/block/${disk#/dev/}/size) = $((24 * 2048)) ]
dd if=/tmp/data of=$disk bs=64k conv=fsync
finish TERM
dd if=/tmp/data of=/tmp/chunk bs=16k skip=1 count=1
cmp -n 16384 /tmp/chunk /tmp/two   # the second chunk is the second file's first
begin stripe --chunk 16K --data-path fixed_copy /tmp/one /tmp/two /tmp/three
cmp -n 1048576 /tmp/data $disk
finish INT
rm /tmp/one /tmp/two /tmp/three
)sh")));
}

// What is opened must not get the number of a stream that is closed: the image would be printed to.
TEST_F(programs, ClosedStreamsHarmNobody) {
    EXPECT_TRUE(succeeded(script(R"sh(
head -c 4194304 /dev/urandom >/tmp/image
cp /tmp/image /tmp/before
file --queues 1 --id 31 /tmp/image <&- >&- 2>&- &
server=$!
disk=/dev/ublkb31
n=0; until [ -b $disk ]; do n=$((n + 1)); [ $n -lt 600 ]; sleep 0.1; done
cmp /tmp/image $disk
finish TERM
cmp /tmp/image /tmp/before
code() { c=0; "$@" || c=$?; }
code memory --size 100 <&- >&- 2>&-;  [ $c = 1 ]
code memory --size 100 2>/dev/full;   [ $c = 1 ]
code memory --depth 0 >&- 2>&-;       [ $c = 2 ]
code memory --help >/dev/full;        [ $c = 0 ]
begin memory --size 16M --id 5
code memory --size 16M --id 5 2>&-;   [ $c = 1 ]
finish INT
memory --size 16M --id 32 >/dev/full 2>&1 &
server=$!
disk=/dev/ublkb32
n=0; until [ -b $disk ]; do n=$((n + 1)); [ $n -lt 600 ]; sleep 0.1; done
finish TERM
)sh")));
}

TEST_F(programs, EverySignalThatEndsThemWritesDirtyPagesBack) {
    EXPECT_TRUE(succeeded(script(R"sh(
for signal in TERM INT HUP QUIT; do
    truncate -s 8M /tmp/image
    begin file --queues 1 --stop-deadline 30s --command-deadline 1m /tmp/image
    head -c 2097152 /dev/urandom >/tmp/data
    exec 7>$disk
    dd if=/tmp/data bs=64k >&7
    ( n=0; while [ -e $disk ] && [ $n -lt 600 ]; do n=$((n + 1)); sleep 0.1; done ) &
    exec 7>&-
    finish $signal
    cmp -n 2097152 /tmp/data /tmp/image
    rm /tmp/image
done
)sh")));
}

}  // namespace
}  // namespace backend_programs_test
