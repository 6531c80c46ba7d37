// SPDX-License-Identifier: MIT

// Disks in files that lie on other disks of the same threads. A thread that waited for such a file
// would wait for itself, and neither stop() nor SIGKILL could end that.

#include "backends.hpp"
#include "client.hpp"

#include <ublk/backends/file.hpp>
#include <ublk/backends/memory.hpp>
#include <ublk/thread_set.hpp>
#include <ublk/ublk.hpp>

#include <memory>
#include <string>
#include <vector>

namespace ublk_test {
namespace layers_test {
namespace {

using ublk::backends::file;
using ublk::backends::memory;

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::size_t writers = 32;

class layers : public on_a_clean_system {
protected:
    ublk::thread_set threads{{.threads = 1}};

    /// Of the same thread.
    template <class Backend>
    [[nodiscard]] std::shared_ptr<ublk::device<Backend, ublk::pooled>> start(Backend backend) {
        ublk::options requested = small(1);
        requested.depth = 64;
        auto made = std::make_shared<ublk::device<Backend, ublk::pooled>>(std::move(backend),
                                                                          threads, requested);
        bounded("start()", [made] { made->start(); });
        return made;
    }
};

template <class Device>
void stop(const std::shared_ptr<Device>& disk) {
    bounded("stop()", [disk] { disk->stop(); });
}

[[nodiscard]] file upon(const std::string& path, bool direct = false) {
    ublk::backends::file_options given;
    given.direct = direct;
    return bounded("opening " + path, [path, given] { return file{path, given}; });
}

/// Small writes at different pages, all at once: each makes the file read its page first, and waits
/// for the medium.
void write_everywhere(const std::string& path) {
    std::vector<meanwhile> clients;
    for (std::size_t i = 0; i < writers; ++i) {
        clients.emplace_back("a write", [path, i] {
            client disk{path};
            if (disk.write(i * 64 * kib, pattern(i * 64 * kib, 512, 90), any_cpu, RWF_DSYNC) != 0) {
                throw std::runtime_error{"a write failed"};
            }
        });
    }
    for (meanwhile& each : clients) {
        each.end();
    }
    client disk{path};
    for (std::size_t i = 0; i < writers; ++i) {
        EXPECT_TRUE(holds(disk, i * 64 * kib, pattern(i * 64 * kib, 512, 90)));
    }
}

TEST_F(layers, a_disk_in_a_disk_of_the_same_thread) {
    const auto lower = start(memory{8 * mib});
    for (const bool direct : {false, true}) {
        const auto upper = start(upon(lower->path(), direct));
        write_everywhere(upper->path());
        stop(upper);
    }
    stop(lower);
}

// The lowest has to wait as well: for a file whose pages are not in memory. So the kernel needs as
// many workers for it as the disks above it keep waiting, and more.
TEST_F(layers, a_disk_in_a_disk_in_a_file_that_waits) {
    ASSERT_TRUE(succeeded(sh("truncate -s 96M /tmp/layers.img; mkfs.ext4 -q -F /tmp/layers.img; "
                             "mkdir -p /tmp/layers; mount -o loop /tmp/layers.img /tmp/layers; "
                             "dd if=/dev/zero of=/tmp/layers/image bs=1M count=8 2>/dev/null")));
    {
        const auto lower = start(upon("/tmp/layers/image"));
        const auto middle = start(upon(lower->path()));
        const auto upper = start(upon(middle->path()));
        ASSERT_TRUE(succeeded(sh("sync; echo 3 >/proc/sys/vm/drop_caches")));
        write_everywhere(upper->path());
        stop(upper);
        stop(middle);
        stop(lower);
    }
    EXPECT_TRUE(succeeded(sh("umount /tmp/layers; rm /tmp/layers.img")));
}

TEST_F(layers, a_disk_in_a_file_system_on_a_disk_of_the_same_thread) {
    const auto lower = start(memory{64 * mib});
    const auto other = start(memory{1 * mib});
    ASSERT_TRUE(succeeded(sh("mkfs.ext4 -q -F " + lower->path() + "; mkdir -p /tmp/layers; mount " +
                             lower->path() + " /tmp/layers; truncate -s 16M /tmp/layers/image")));
    {
        const auto upper = start(upon("/tmp/layers/image"));
        write_everywhere(upper->path());
        // Writers are made to wait from the first dirty page on.
        const std::string ratio = read_line("/proc/sys/vm/dirty_bytes");
        ASSERT_TRUE(write_text("/proc/sys/vm/dirty_bytes", "8192"));
        write_everywhere(upper->path());
        client beside{other->path()};
        EXPECT_EQ(beside.write(0, pattern(0, 4096, 91)), 0);
        EXPECT_TRUE(ratio == "0" ? write_text("/proc/sys/vm/dirty_ratio", "20")
                                 : write_text("/proc/sys/vm/dirty_bytes", ratio));
        stop(upper);
    }
    EXPECT_TRUE(succeeded(sh("umount /tmp/layers")));
    stop(other);
    stop(lower);
}

}  // namespace
}  // namespace layers_test
}  // namespace ublk_test
