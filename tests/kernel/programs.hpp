// SPDX-License-Identifier: MIT
#pragma once

// The example programs as a user runs them.

#include "shell.hpp"

#include <gtest/gtest.h>

#include <sys/stat.h>

#include <cstdlib>
#include <string>

namespace ublk_test {

// Starts $program, waits for its line, and sets $disk; `finish` sends a signal and checks that it
// leaves with 0 and without its device.
inline constexpr const char* program_helpers = R"sh(
out=$(mktemp)
ready='^/dev/ublkb'  # the last line that a program says once it serves
begin() {
    : >$out  # what the last one said
    "$@" >$out 2>&1 &
    server=$!
    n=0
    until grep -q "$ready" $out; do
        kill -0 $server || { cat $out; exit 90; }
        n=$((n + 1)); [ $n -lt 600 ] || { echo "no line in 60 s"; kill -9 $server; exit 91; }
        sleep 0.1
    done
    disk=$(sed -n 's,^\(/dev/ublkb[0-9]*\).*,\1,p;T;q' $out)
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
        return sh("PATH=" + path_ + ":$PATH\n" + program_helpers + body);
    }

private:
    std::string path_;
};

}  // namespace ublk_test
