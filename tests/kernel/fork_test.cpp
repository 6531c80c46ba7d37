// SPDX-License-Identifier: MIT

// Servers that fork: what a child ends must not be its parent's disk, and what it keeps must not
// make the clients of a dead parent wait.

#include "../support/child.hpp"
#include "backends.hpp"
#include "client.hpp"

#include <ublk/backends/memory.hpp>
#include <ublk/ublk.hpp>

#include <memory>
#include <string>

namespace ublk_test {
namespace fork_test {
namespace {

constexpr std::uint64_t mib = 1024 * 1024;

using memory = ublk::backends::memory;

class forks : public on_a_clean_system {};

/// What a child that was forked now has to say of the device.
template <class Device>
[[nodiscard]] std::string said_in_child(Device& device) {
    std::string outcome = device.state() == ublk::device_state::of_parent ? "parent's" : "mine";
    for (const auto call : {&Device::start, static_cast<void (Device::*)()>(&Device::stop)}) {
        try {
            (device.*call)();
            outcome += ", ended";
        } catch (const ublk::error& refused) {
            outcome += refused.errno_value() == EPERM ? ", refused" : ", failed";
        }
    }
    return outcome;
}

TEST_F(forks, a_child_that_returns_from_main_leaves_its_parents_disk_alone) {
    child_process server{[](const child_process::link& parent) {
        auto device = std::make_unique<ublk::device<memory>>(memory{1 * mib}, small());
        device->start();
        const int child = in_child([&] {
            const std::string outcome = said_in_child(*device);
            device.reset();
            parent.say(outcome);
            return 0;
        });
        parent.say(std::to_string(child) + " " + device->path());
        parent.listen();
        device->stop();
        parent.say("stopped");
    }};
    EXPECT_EQ(server.hear(), "parent's, refused, refused");
    const std::string path = server.hear();
    ASSERT_EQ(path.substr(0, 12), "0 /dev/ublkb");
    {
        client file{path.substr(2)};
        ASSERT_EQ(file.open_error(), 0);
        EXPECT_EQ(file.write(0, pattern(0, 4096, 1)), 0);
        EXPECT_TRUE(holds(file, 0, pattern(0, 4096, 1)));
    }
    server.tell();
    EXPECT_EQ(server.hear(), "stopped");
    EXPECT_TRUE(server.gone());
    EXPECT_EQ(server.exit_code(), 0);
}

/// Kills a server whose child lives on. The client of its disk must not wait for the child.
template <class Device>
void kill_beside_a_child() {
    child_process server{[](const child_process::link& parent) {
        Device device{memory{1 * mib}, small()};
        device.start();
        const pid_t child = ::fork();
        if (child == 0) {
            ::alarm(300);
            while (true) {
                ::pause();
            }
        }
        parent.say(std::to_string(child));
        parent.say(std::to_string(device.id()));
        parent.listen();
    }};
    const auto child = static_cast<pid_t>(number_of(server.hear()));
    const std::uint32_t id = number_of(server.hear());
    {
        client file{"/dev/ublkb" + std::to_string(id)};
        ASSERT_EQ(file.open_error(), 0);
        EXPECT_EQ(file.write(0, pattern(0, 4096, 2)), 0);
        server.kill();
        EXPECT_TRUE(server.gone());
        bytes out(4096);
        EXPECT_NE(file.read(0, out), 0) << "of a disk whose server is dead";
        EXPECT_EQ(::kill(child, 0), 0) << "the child is there all the while";
    }
    bounded("DEL_DEV", [id] { open_control().del_dev(id); });
    EXPECT_EQ(::kill(child, SIGKILL), 0);
}

TEST_F(forks, a_child_that_stays_keeps_no_disk_of_a_dead_server) {
    kill_beside_a_child<ublk::device<memory>>();
}

TEST_F(forks, a_child_that_stays_keeps_no_disk_in_the_drivers_batches) {
    kill_beside_a_child<ublk::device<memory, ublk::shared, ublk::batch_io>>();
}

// As daemon(3) does: the parent of the one that goes on ends at once.
TEST_F(forks, a_server_that_forks_away_from_its_threads_is_told_so) {
    child_process server{[](const child_process::link& parent) {
        auto device = std::make_unique<ublk::device<memory>>(memory{1 * mib}, small());
        device->start();
        parent.say(std::to_string(device->id()));
        if (::fork() != 0) {
            ::_exit(0);
        }
        ::alarm(300);
        try {
            device->wait();
            parent.say("waited");
        } catch (const ublk::error& refused) {
            parent.say(refused.what());
        }
    }};
    const std::uint32_t id = number_of(server.hear());
    const std::string outcome = server.hear();
    EXPECT_NE(outcome.find("fork before start"), std::string::npos) << outcome;
    EXPECT_TRUE(server.gone());
    EXPECT_TRUE(eventually([id] {
        return ::access(("/sys/block/ublkb" + std::to_string(id)).c_str(), F_OK) != 0;
    })) << "nobody serves it any more";
    bounded("DEL_DEV", [id] { open_control().del_dev(id); });
}

}  // namespace
}  // namespace fork_test
}  // namespace ublk_test
