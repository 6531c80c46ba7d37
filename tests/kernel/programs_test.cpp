// SPDX-License-Identifier: MIT
// The example programs as a user runs them: options, signals, exit codes.
#include "programs.hpp"

#include <gtest/gtest.h>

namespace programs_test {
namespace {

using ublk_test::programs;
using ublk_test::succeeded;

TEST_F(programs, HelloServesAndEndsAtCtrlC) {
    EXPECT_TRUE(succeeded(script(R"sh(
begin hello
[ "$(cat $out)" = $disk ]
dd if=/dev/urandom of=/tmp/data bs=64k count=16
dd if=/tmp/data of=$disk bs=64k conv=fsync
cmp -n 1048576 /tmp/data $disk
finish INT
)sh")));
}

TEST_F(programs, SigtermWithADirtyPageCacheEndsCleanly) {
    EXPECT_TRUE(succeeded(script(R"sh(
begin memory --size 64M --depth 32
exec 7>$disk      # keeps the last close, which would write the pages, until the disk is gone
dd if=/dev/zero bs=1M count=32 >&7
( n=0; while [ -e $disk ] && [ $n -lt 600 ]; do n=$((n + 1)); sleep 0.1; done ) &
exec 7>&-
finish TERM
)sh")));
}

TEST_F(programs, MemoryTakesItsOptions) {
    EXPECT_TRUE(succeeded(script(R"sh(
begin memory --size 96M --queues 1 --depth 16 --max-io 64K --block-size 4096 --id 23
[ $disk = /dev/ublkb23 ]
q=/sys/block/ublkb23/queue
[ $(cat /sys/block/ublkb23/size) = $((96 * 2048)) ]
[ $(cat $q/logical_block_size) = 4096 ]
[ $(cat $q/max_hw_sectors_kb) = 64 ]
[ $(ls /sys/block/ublkb23/mq | wc -l) = 1 ]
[ $(cat /sys/block/ublkb23/mq/0/nr_tags) = 16 ]
[ $(cat /sys/block/ublkb23/ro) = 0 ]
finish INT
begin memory --size 16M --read-only
[ $(cat /sys/block/${disk#/dev/}/ro) = 1 ]
if dd if=/dev/zero of=$disk bs=4k count=1 conv=fsync 2>/dev/null; then exit 95; fi
finish INT
)sh")));
}

TEST_F(programs, EveryPolicyHasAName) {
    EXPECT_TRUE(succeeded(script(R"sh(
for threads in per_cpu shared; do
    for batch in per_wakeup batch_io; do
        begin memory --size 16M --depth 8 --max-io 64K --threads $threads --batch $batch
        grep -q "$threads $batch" $out
        dd if=/dev/urandom of=/tmp/data bs=64k count=4
        dd if=/tmp/data of=$disk bs=64k conv=fsync
        cmp -n 262144 /tmp/data $disk
        finish INT
    done
done
)sh")));
}

TEST_F(programs, ManyDisksShareTheirThreads) {
    EXPECT_TRUE(succeeded(script(R"sh(
ready='on 2 threads'
begin many --disks 3 --size 16M --threads 2
[ $(grep -o /dev/ublkb $out | wc -l) = 3 ]
dd if=/dev/urandom of=/tmp/data bs=64k count=16
for each in $(grep -o '/dev/ublkb[0-9]*' $out); do
    dd if=/tmp/data of=$each bs=64k conv=fsync
    cmp -n 1048576 /tmp/data $each
done
finish TERM
)sh")));
}

TEST_F(programs, ExitCodesTellAWrongCommandLineFromAFailure) {
    EXPECT_TRUE(succeeded(script(R"sh(
code() { c=0; "$@" >$out 2>&1 || c=$?; }
code memory --help;         [ $c = 0 ]; grep -q -- --block-size $out
code memory --depth 0;      [ $c = 2 ]; grep -q -- --depth $out
code memory --nonsense;     [ $c = 2 ]
code memory --size 10Q;     [ $c = 2 ]
code memory --size 100;     [ $c = 1 ]; grep -q 'multiple of the logical block size' $out
code memory --max-io 64M;   [ $c = 1 ]; grep -q 'max_io_bytes' $out
begin memory --size 16M --id 5
cp $out /tmp/first
code memory --size 16M --id 5
[ $c = 1 ]; grep -q 'ADD_DEV for device 5' $out; grep -q Remedy $out
finish INT
)sh")));
}

TEST_F(programs, DeadlinesAreTimesWithAUnit) {
    EXPECT_TRUE(succeeded(script(R"sh(
code() { c=0; "$@" >$out 2>&1 || c=$?; }
for bad in 5x 0 -3s '' s nan; do
    code memory --stop-deadline "$bad"; [ $c = 2 ] || { echo "$bad is taken"; exit 95; }
done
begin memory --size 16M --stop-deadline none --command-deadline 2.5m
finish TERM
begin many --disks 1 --size 16M --stop-deadline 500ms
finish TERM
)sh")));
}

}  // namespace
}  // namespace programs_test
