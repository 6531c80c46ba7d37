// SPDX-License-Identifier: MIT

// Administration from another process than the server's.

#include "backends.hpp"
#include "client.hpp"

#include <ublk/control.hpp>
#include <ublk/ublk.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ublk_test {
namespace control_test {
namespace {

constexpr std::uint64_t mib = 1u << 20;
constexpr std::uint32_t no_such_device = 987654;

class administration : public on_a_clean_system {
protected:
    /// What the list says of that device.
    static std::optional<ublk::uapi::dev_info> listed(std::uint32_t id) {
        const std::vector<ublk::uapi::dev_info> all = ublk::control{patience}.list();
        const auto found = std::ranges::find(all, id, &ublk::uapi::dev_info::dev_id);
        return found == all.end() ? std::nullopt : std::optional{*found};
    }

    template <class Call>
    static int refusal(Call call) {
        try {
            call();
        } catch (const ublk::error& refused) {
            EXPECT_EQ(refused.device(), no_such_device) << refused.what();
            return refused.errno_value();
        }
        return 0;
    }
};

TEST_F(administration, lists_devices_with_their_states) {
    EXPECT_TRUE(ublk::control{patience}.list().empty());
    ublk::options requested = small();
    requested.depth = 7;
    const auto one = start_disk(ram{1 * mib}, requested);
    const auto other = start_disk(ram{1 * mib}, small());
    const std::optional<ublk::uapi::dev_info> seen = listed(one->id());
    ASSERT_TRUE(seen);
    EXPECT_EQ(to_string(seen->state), "live");
    EXPECT_EQ(seen->queue_depth, 7u);
    EXPECT_EQ(seen->pid, ::getpid());
    EXPECT_TRUE(listed(other->id()));
    EXPECT_EQ(ublk::control{patience}.list().size(), 2u);
}

TEST_F(administration, stops_and_deletes_what_another_process_serves) {
    child_process server{[](const child_process::link& parent) {
        ublk::device<ram> device{ram{1 * mib}, small()};
        device.start();
        parent.say(std::to_string(device.id()));
        device.wait();
    }};
    const auto id = static_cast<std::uint32_t>(std::stoul(server.hear()));
    bounded("stopping from outside", [id] { ublk::control{patience}.stop(id); });
    EXPECT_TRUE(server.gone());
    if (listed(id)) {  // its own server has not deleted it yet
        bounded("deleting", [id] { EXPECT_TRUE(ublk::control{patience}.del(id)); });
    }
    EXPECT_TRUE(eventually([&] { return !listed(id); }));
}

TEST_F(administration, deletes_what_a_killed_server_leaves_behind) {
    std::uint32_t id = 0;
    {
        child_process server{[](const child_process::link& parent) {
            ublk::device<ram> device{ram{1 * mib}, small()};
            device.start();
            parent.say(std::to_string(device.id()));
            parent.listen();
        }};
        id = static_cast<std::uint32_t>(std::stoul(server.hear()));
        server.kill();
        EXPECT_TRUE(server.gone());
    }
    EXPECT_TRUE(eventually([&] { return listed(id)->state == ublk::uapi::dev_state::dead; }));
    EXPECT_EQ(listed(id)->pid, -1);
    bounded("deleting", [id] { EXPECT_TRUE(ublk::control{patience}.del(id)); });
    EXPECT_FALSE(listed(id));
}

TEST_F(administration, says_so_where_there_is_no_such_device) {
    ublk::control control{patience};
    EXPECT_EQ(refusal([&] { (void)control.info(no_such_device); }), ENODEV);
    EXPECT_EQ(refusal([&] { control.stop(no_such_device); }), ENODEV);
    EXPECT_EQ(refusal([&] { (void)control.del(no_such_device); }), ENODEV);
}

}  // namespace
}  // namespace control_test
}  // namespace ublk_test
