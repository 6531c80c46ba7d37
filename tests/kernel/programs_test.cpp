// SPDX-License-Identifier: MIT
// The example programs as a user runs them: options, signals, exit codes.
#include "shell.hpp"

#include <gtest/gtest.h>

#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <string>

namespace {

using namespace std::chrono_literals;
using ublk_test::finished;
using ublk_test::sh;
using ublk_test::succeeded;

// Starts $program, waits for its line, and sets $disk; `finish` sends a signal and checks that it
// leaves with 0 and without its device.
constexpr const char* helpers = R"sh(
out=$(mktemp)
begin() {
    : >$out  # what the last one said
    "$@" >$out 2>&1 &
    server=$!
    n=0
    until grep -q ^/dev/ublkb $out; do
        kill -0 $server || { cat $out; exit 90; }
        n=$((n + 1)); [ $n -lt 300 ] || { echo "no line in 30 s"; kill -9 $server; exit 91; }
        sleep 0.1
    done
    disk=$(sed -n 's,^\(/dev/ublkb[0-9]*\).*,\1,p' $out)
    [ -b $disk ]
}
# dd only speaks when it fails.
dd() { command dd "$@" 2>/tmp/dd || { cat /tmp/dd; return 1; }; }
finish() {
    kill -$1 $server
    code=0; wait $server || code=$?
    [ $code = 0 ] || { echo "exit code $code after $1"; cat $out; exit 92; }
    [ ! -e $disk ] || { echo "$disk is left"; exit 93; }
    [ ! -e /dev/ublkc${disk#/dev/ublkb} ] || { echo "the device is left"; exit 94; }
}
)sh";

class programs : public testing::Test {
protected:
    void SetUp() override {
        const char* const there = std::getenv("UBLK_EXAMPLES");
        ASSERT_NE(there, nullptr) << "$UBLK_EXAMPLES names the directory of the example programs";
        path_ = there;
        struct stat found {};
        ASSERT_EQ(::stat((path_ + "/memory").c_str(), &found), 0);
    }

    [[nodiscard]] finished script(const std::string& body) const {
        return sh("PATH=" + path_ + ":$PATH\n" + helpers + body, 90s);
    }

private:
    std::string path_;
};

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
exec 7>$disk      # keeps the last close, which would write the pages, until after the signal
dd if=/dev/zero bs=1M count=32 >&7
( sleep 1; exec 7>&- ) &
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
    for batch in each per_wakeup up_to_4 up_to_16 driver_batches; do
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

TEST_F(programs, ManyDisksShareTheirThreads) {
    EXPECT_TRUE(succeeded(script(R"sh(
begin many --disks 3 --size 16M --threads 2
grep -q 'on 2 threads' $out
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

}  // namespace
