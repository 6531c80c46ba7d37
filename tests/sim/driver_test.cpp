// SPDX-License-Identifier: MIT

// What the scripts cannot play, since they run as root on a real driver too: servers without
// privileges, their devices and paths.

#include <ublk/control/control_commands.hpp>
#include <ublk/sim/client.hpp>
#include <ublk/sim/kernel.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>

namespace driver_test {
namespace {

using namespace std::chrono_literals;
namespace sim = ublk::sim;
namespace uapi = ublk::uapi;
namespace ctrl = ublk::uapi::ctrl;
namespace feature = ublk::uapi::feature;

/// Sends raw commands as a user who is not root.
class ordinary_user : public testing::Test {
protected:
    void TearDown() override {
        for (std::uint32_t id = 0; in.devices() != 0 && id < 8; ++id) {
            (void)tell(ctrl::del_dev, id, "/dev/ublkc" + std::to_string(id));
        }
    }

    /// The answer to a command whose buffer is a path, if one is given, and `value`.
    template <class Value>
    int ask(std::uint32_t op, std::uint32_t id, const std::string& path, Value& value) {
        ublk::detail::control_command command;
        command.op = op;
        command.header.dev_id = id;
        command.header.queue_id = uapi::no_queue_id;
        const std::size_t prefix = path.empty() ? 0 : (path.size() + 8) / 8 * 8;
        std::memcpy(command.payload, path.data(), path.size());
        std::memcpy(command.payload + prefix, &value, sizeof value);
        command.header.dev_path_len = static_cast<std::uint16_t>(prefix);
        command.header.len = static_cast<std::uint16_t>(prefix + sizeof value);
        const ublk::detail::control_ticket ticket = control.begin(command);
        const int answer = control.finish(ticket, command, self.now() + 60s);
        std::memcpy(static_cast<void*>(&value), command.payload + prefix, sizeof value);
        return answer;
    }
    int tell(std::uint32_t op, std::uint32_t id, const std::string& path) {
        std::uint64_t nothing = 0;
        return ask(op, id, path, nothing);
    }

    static uapi::dev_info wish(std::uint64_t flags) {
        uapi::dev_info info;
        info.nr_hw_queues = 1;
        info.queue_depth = 1;
        info.max_io_buf_bytes = 4096;
        info.dev_id = uapi::any_dev_id;
        info.flags = flags;
        return info;
    }
    int add(std::uint64_t flags, uapi::dev_info* granted = nullptr) {
        uapi::dev_info info = wish(flags);
        const int answer = ask(ctrl::add_dev, uapi::any_dev_id, "", info);
        if (granted != nullptr) {
            *granted = info;
        }
        return answer;
    }

    sim::world in{{.seed = 1, .root = false, .unprivileged_max = 2}};
    sim::kernel self = in.boot();
    sim::kernel::control control = self.open_control();
};

TEST_F(ordinary_user, may_only_add_unprivileged_devices) {
    EXPECT_EQ(add(0), -EPERM);
    uapi::dev_info granted;
    EXPECT_EQ(add(feature::unprivileged_dev | feature::user_recovery, &granted), 0);
    EXPECT_EQ(granted.flags & (feature::unprivileged_dev | feature::user_recovery),
              feature::unprivileged_dev);
    EXPECT_EQ(granted.owner_uid, 1000u);
}

TEST_F(ordinary_user, gets_copy_mode_only) {
    for (const std::uint64_t refused :
         {feature::user_copy, feature::support_zero_copy, feature::auto_buf_reg}) {
        EXPECT_EQ(add(feature::unprivileged_dev | refused), -EINVAL);
    }
}

TEST_F(ordinary_user, gets_so_many_devices_and_no_more) {
    EXPECT_EQ(add(feature::unprivileged_dev), 0);
    EXPECT_EQ(add(feature::unprivileged_dev), 0);
    EXPECT_EQ(add(feature::unprivileged_dev), -EACCES);
    EXPECT_EQ(tell(ctrl::del_dev, 0, "/dev/ublkc0"), 0);
    EXPECT_EQ(add(feature::unprivileged_dev), 0);
}

TEST_F(ordinary_user, names_a_device_by_its_path) {
    ASSERT_EQ(add(feature::unprivileged_dev), 0);
    ASSERT_EQ(add(feature::unprivileged_dev), 0);
    uapi::dev_info info;
    EXPECT_EQ(ask(ctrl::get_dev_info, 1, "", info), -EINVAL);
    EXPECT_EQ(ask(ctrl::get_dev_info, 1, "/dev/ublkc1", info), 0);
    EXPECT_EQ(info.dev_id, 1u);
    EXPECT_EQ(ask(ctrl::get_dev_info, 1, "/dev/ublkc0", info), -EPERM);
    EXPECT_EQ(ask(ctrl::get_dev_info, 1, "/dev/ublkc7", info), -ENOENT);
    EXPECT_EQ(ask(ctrl::get_dev_info, 1, "/dev/null", info), -EPERM);
    EXPECT_EQ(ask(ctrl::get_dev_info, 1, "/dev/null/below", info), -ENOTDIR);
    EXPECT_EQ(tell(ctrl::del_dev_async, 1, "/dev/ublkc1"), -EINVAL);
    EXPECT_EQ(tell(ctrl::stop_dev, 1, "/dev/ublkc1"), 0);
}

TEST(root_user, keeps_his_devices_to_himself) {
    sim::world in{{.seed = 1}};
    const sim::kernel self = in.boot();
    ublk::detail::control_commands<sim::kernel> commands{self, 60s};
    uapi::dev_info info;
    info.nr_hw_queues = info.queue_depth = 1;
    info.max_io_buf_bytes = 4096;
    info.dev_id = 5;
    info.flags = feature::unprivileged_dev;
    info = commands.add_dev(info);
    EXPECT_EQ(info.flags & feature::unprivileged_dev, 0u) << "root's devices are privileged";
    in.on().is.root = false;
    try {
        (void)commands.get_dev_info(5);
        FAIL() << "somebody else's device";
    } catch (const ublk::error& refused) {
        EXPECT_EQ(refused.errno_value(), EPERM);
    }
    in.on().is.root = true;
    commands.del_dev(5);
    EXPECT_EQ(in.devices(), 0u);
}

TEST(root_user, cannot_open_a_disk_that_is_not_there) {
    sim::world in{{.seed = 1}};
    EXPECT_THROW((sim::client{in, 0}), ublk::error);
    const sim::kernel self = in.boot();
    EXPECT_THROW((void)self.open_channel(0, self.now() + 10ms), ublk::error);
}

}  // namespace
}  // namespace driver_test
