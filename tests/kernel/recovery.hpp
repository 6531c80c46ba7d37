// SPDX-License-Identifier: MIT
#pragma once

// Servers that die in processes of their own, and what serves their disks after them.

#include "client.hpp"

#include <ublk/backends/file_more_paths.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace ublk_test {

[[nodiscard]] inline ublk::options recoverable(ublk::data_path path, ublk::recovery_kind kind) {
    ublk::options requested = small();
    requested.depth = 64;  // more than fio uses: before 6.16 a queue without idle tags takes 30 s
    requested.path = path;
    requested.recovery = kind;
    return requested;
}

/// A child that adds a disk, or recovers it where `id` says which. It says the id and then serves
/// until it is told to stop, after which it says "stopped".
[[nodiscard]] inline std::unique_ptr<child_process> server(const std::string& path,
                                                           const ublk::options& requested,
                                                           std::optional<std::uint32_t> id = {}) {
    return std::make_unique<child_process>([=](const child_process::link& parent) {
        // The image is locked until the kernel has let go of all that a dead server had.
        const ublk::backends::file_options patient{.lock_wait = long_patience};
        ublk::device<ublk::backends::file_more_paths> disk{
            std::make_shared<ublk::backends::file_more_paths>(path, patient), requested};
        id ? disk.recover(*id) : disk.start();
        parent.say(std::to_string(disk.id()));
        parent.listen();
        disk.stop();
        parent.say("stopped");
    });
}

/// Every server is ended, and with the last one its disk.
class recovery_tests : public on_a_clean_system {
protected:
    static void kill(child_process& victim) {
        victim.kill();
        EXPECT_TRUE(victim.gone());
    }

    static void stop(child_process& last) {
        last.tell();
        EXPECT_EQ(last.hear(long_patience), "stopped");
        EXPECT_TRUE(last.gone());
    }
};

}  // namespace ublk_test
