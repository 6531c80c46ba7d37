// SPDX-License-Identifier: MIT
#include "fake_kernel.hpp"

#include <ublk/control/control_commands.hpp>

#include <gtest/gtest.h>

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>

namespace control_commands_test {
namespace {

using namespace std::chrono_literals;
using ublk_test::fake_kernel;
using ublk_test::reply;
using manner = reply::manner;
namespace uapi = ublk::uapi;
namespace ctrl = ublk::uapi::ctrl;

[[nodiscard]] std::span<std::byte> a_page() {
    alignas(65536) static std::byte page[65536];
    return page;
}

class control_test : public ::testing::Test {
protected:
    control_test() {
        uapi::dev_info info;
        info.dev_id = 5;
        info.nr_hw_queues = 1;
        info.queue_depth = 1;
        info.max_io_buf_bytes = 4096;
        kernel.driver->create(info);
    }

    [[nodiscard]] const fake_kernel::sent_command& last() const {
        return kernel.driver->log.back();
    }

    // The header of the last command: all that is not named is zero.
    void expect_sent(std::uint32_t op, std::uint32_t id, std::size_t len, std::uint64_t data = 0) {
        ASSERT_FALSE(kernel.driver->log.empty());
        EXPECT_EQ(last().op, op);
        EXPECT_EQ(last().header.dev_id, id);
        EXPECT_EQ(last().header.len, len);
        EXPECT_EQ(last().header.data, data);
        EXPECT_EQ(last().header.pad, 0u);
        EXPECT_EQ(last().header.reserved, 0u);
    }

    fake_kernel kernel{};
    ublk::detail::control_commands<fake_kernel> control{kernel, 100ms};
};

TEST_F(control_test, get_features_asks_for_eight_bytes) {
    kernel.driver->features = 0x123456789abcdef0;
    EXPECT_EQ(control.get_features(), 0x123456789abcdef0u);
    expect_sent(ctrl::get_features, 0, 8);
}

TEST_F(control_test, add_dev_asks_with_the_id_twice_and_no_queue) {
    kernel.driver->exists = false;
    kernel.driver->depth_max = 8;
    uapi::dev_info requested;
    requested.dev_id = 77;
    requested.nr_hw_queues = 2;
    requested.queue_depth = 64;
    requested.max_io_buf_bytes = 65536;
    const uapi::dev_info granted = control.add_dev(requested);
    expect_sent(ctrl::add_dev, 77, sizeof requested);
    EXPECT_EQ(last().header.queue_id, uapi::no_queue_id);
    EXPECT_EQ(std::memcmp(last().payload.data(), &requested, sizeof requested), 0);
    EXPECT_EQ(granted.dev_id, 77u);
    EXPECT_EQ(granted.queue_depth, 8u);
    EXPECT_NE(granted.flags, 0u);
}

TEST_F(control_test, add_dev_names_the_device_only_where_its_id_was_chosen) {
    for (const auto& [id, text] :
         {std::pair{9u, "ADD_DEV for device 9 failed"}, {uapi::any_dev_id, "ADD_DEV failed"}}) {
        uapi::dev_info requested;
        requested.dev_id = id;
        try {
            (void)control.add_dev(requested);  // there is one already
            FAIL();
        } catch (const ublk::error& e) {
            EXPECT_NE(std::string{e.what()}.find(text), std::string::npos) << e.what();
        }
    }
}

TEST_F(control_test, get_dev_info_returns_what_the_driver_says) {
    const uapi::dev_info info = control.get_dev_info(5);
    expect_sent(ctrl::get_dev_info, 5, sizeof info);
    EXPECT_EQ(info.queue_depth, 1u);
    EXPECT_EQ(info.max_io_buf_bytes, 4096u);
}

TEST_F(control_test, get_dev_info2_sends_the_path_before_the_buffer) {
    for (const std::string path : {"/dev/ublkc5", "/dev/ublkc", "1234567", "12345678"}) {
        const uapi::dev_info info = control.get_dev_info2(5, path);
        EXPECT_EQ(info.max_io_buf_bytes, 4096u);
        const auto& sent = last();
        EXPECT_EQ(sent.op, ctrl::get_dev_info2);
        EXPECT_GT(sent.header.dev_path_len, path.size());  // NUL included
        EXPECT_EQ(sent.header.len, sent.header.dev_path_len + sizeof info);
        EXPECT_STREQ(reinterpret_cast<const char*>(sent.payload.data()), path.c_str());
    }
}

TEST_F(control_test, get_dev_info2_refuses_a_path_without_room) {
    const std::size_t sent = kernel.driver->log.size();
    EXPECT_THROW((void)control.get_dev_info2(5, std::string(1000, 'x')), ublk::error);
    EXPECT_EQ(kernel.driver->log.size(), sent);
}

TEST_F(control_test, set_params_sends_and_get_params_returns_them_all) {
    uapi::params params;
    params.len = sizeof params;
    params.types = uapi::param_type::basic | uapi::param_type::discard;
    params.basic.dev_sectors = 1ull << 40;
    params.integrity.tag_size = 3;  // its last bytes
    control.set_params(5, params);
    expect_sent(ctrl::set_params, 5, sizeof params);
    EXPECT_EQ(std::memcmp(last().payload.data(), &params, sizeof params), 0);

    const uapi::params back = control.get_params(5);
    expect_sent(ctrl::get_params, 5, sizeof params);
    uapi::params requested;
    std::memcpy(&requested, last().payload.data(), sizeof requested);
    EXPECT_EQ(requested.len, sizeof requested);
    EXPECT_EQ(std::memcmp(&back, &params, sizeof params), 0);
}

TEST_F(control_test, get_queue_affinity_names_the_queue_inline) {
    const ublk::cpu_set cpus = control.get_queue_affinity(5, ublk::queue_id{300});
    expect_sent(ctrl::get_queue_affinity, 5, 1024, 300);
    EXPECT_TRUE(cpus.contains(0));
    EXPECT_FALSE(cpus.contains(1));
}

TEST_F(control_test, start_dev_carries_the_process) {
    kernel.driver->script[ctrl::start_dev] = {manner::refuse, 0};
    control.start_dev(5, 12345);
    expect_sent(ctrl::start_dev, 5, 0, 12345);
}

TEST_F(control_test, stop_and_delete_carry_the_id_alone) {
    control.stop_dev(5, 100ms);
    expect_sent(ctrl::stop_dev, 5, 0);
    control.del_dev(5);
    expect_sent(ctrl::del_dev, 5, 0);
    kernel.driver->exists = true;
    control.del_dev_async(5);
    expect_sent(ctrl::del_dev_async, 5, 0);
}

TEST_F(control_test, a_device_that_is_gone_counts_as_stopped_and_deleted) {
    kernel.driver->exists = false;
    EXPECT_NO_THROW(control.stop_dev(5, 100ms));
    EXPECT_NO_THROW(control.del_dev(5));
    EXPECT_NO_THROW(control.del_dev_async(5));
    EXPECT_TRUE(control.del_dev(5, 100ms));
}

TEST_F(control_test, any_other_refusal_of_a_delete_is_reported) {
    for (const int code : {EPERM, EOPNOTSUPP}) {
        kernel.driver->script[ctrl::del_dev] = {manner::refuse, code};
        EXPECT_THROW(control.del_dev(5), ublk::error);
        EXPECT_THROW((void)control.del_dev(5, 100ms), ublk::error);
    }
}

TEST_F(control_test, a_delete_with_a_limit_tells_when_somebody_still_holds_the_device) {
    kernel.driver->script[ctrl::del_dev] = {manner::silent, 0};
    EXPECT_FALSE(control.del_dev(5, 20ms));
    kernel.driver->script[ctrl::del_dev] = {manner::late, 0};
    EXPECT_TRUE(control.del_dev(5, 20ms));
}

// Every command that takes an id, by its name.
using call =
    std::pair<const char*, std::function<void(ublk::detail::control_commands<fake_kernel>&)>>;
const call calls[] = {
    {"GET_FEATURES", [](auto& c) { (void)c.get_features(); }},
    {"ADD_DEV", [](auto& c) { (void)c.add_dev({}); }},
    {"GET_DEV_INFO", [](auto& c) { (void)c.get_dev_info(5); }},
    {"GET_DEV_INFO2", [](auto& c) { (void)c.get_dev_info2(5, "/dev/ublkc5"); }},
    {"SET_PARAMS", [](auto& c) { c.set_params(5, {}); }},
    {"GET_PARAMS", [](auto& c) { (void)c.get_params(5); }},
    {"GET_QUEUE_AFFINITY", [](auto& c) { (void)c.get_queue_affinity(5, {}); }},
    {"START_DEV", [](auto& c) { c.start_dev(5, 1); }},
    {"STOP_DEV", [](auto& c) { c.stop_dev(5, 20ms); }},
    {"DEL_DEV", [](auto& c) { c.del_dev(5); }},
    {"DEL_DEV_ASYNC", [](auto& c) { c.del_dev_async(5); }},
    {"START_USER_RECOVERY", [](auto& c) { (void)c.start_user_recovery(5); }},
    {"END_USER_RECOVERY", [](auto& c) { c.end_user_recovery(5, 1); }},
    {"QUIESCE_DEV", [](auto& c) { (void)c.quiesce_dev(5, 20ms); }},
    {"TRY_STOP_DEV", [](auto& c) { (void)c.try_stop_dev(5, 20ms); }},
    {"REG_BUF", [](auto& c) { (void)c.register_memory(5, a_page(), false); }},
    {"UNREG_BUF", [](auto& c) { c.unregister_memory(5, 3); }},
};

constexpr std::uint32_t all_commands[] = {
    ctrl::get_features,      ctrl::add_dev,     ctrl::get_dev_info,       ctrl::get_dev_info2,
    ctrl::set_params,        ctrl::get_params,  ctrl::get_queue_affinity, ctrl::start_dev,
    ctrl::stop_dev,          ctrl::del_dev,     ctrl::del_dev_async,      ctrl::start_user_recovery,
    ctrl::end_user_recovery, ctrl::quiesce_dev, ctrl::try_stop_dev,       ctrl::reg_buf,
    ctrl::unreg_buf};

TEST_F(control_test, a_refusal_names_the_command_and_its_errno) {
    for (const std::uint32_t op : all_commands) {
        kernel.driver->script[op] = {manner::refuse, EPERM};
    }
    for (const auto& [name, run] : calls) {
        try {
            run(control);
            ADD_FAILURE() << name;
        } catch (const ublk::error& e) {
            EXPECT_EQ(e.command(), name);
            EXPECT_EQ(e.errno_value(), EPERM);
            EXPECT_FALSE(e.cause().empty()) << name;
            EXPECT_FALSE(e.remedy().empty()) << name;
        }
    }
}

TEST_F(control_test, a_command_without_an_answer_is_cancelled_at_its_deadline) {
    for (const std::uint32_t op : all_commands) {
        kernel.driver->script[op] = {manner::silent, 0};
    }
    ublk::detail::control_commands<fake_kernel> hasty{kernel, 20ms};
    for (const auto& [name, run] : calls) {
        const auto begun = std::chrono::steady_clock::now();
        try {
            run(hasty);
            ADD_FAILURE() << name;
        } catch (const ublk::error& e) {
            EXPECT_EQ(e.errno_value(), ETIMEDOUT);
            EXPECT_EQ(e.command(), name);
            EXPECT_FALSE(e.cause().empty()) << name;
            EXPECT_FALSE(e.remedy().empty()) << name;
        }
        EXPECT_GE(std::chrono::steady_clock::now() - begun, 20ms);
    }
}

TEST_F(control_test, an_answer_at_the_last_moment_counts) {
    kernel.driver->script[ctrl::get_dev_info] = {manner::late, 0};
    ublk::detail::control_commands<fake_kernel> hasty{kernel, 20ms};
    EXPECT_EQ(hasty.get_dev_info(5).max_io_buf_bytes, 4096u);
    kernel.driver->exists = false;
    try {
        (void)hasty.get_dev_info(5);
        FAIL();
    } catch (const ublk::error& e) {
        EXPECT_EQ(e.errno_value(), ENODEV);  // the driver's own word, not ETIMEDOUT
    }
}

TEST_F(control_test, a_stop_that_takes_longer_can_be_waited_for_again) {
    {
        const std::lock_guard lock{kernel.driver->mutex};
        kernel.driver->tags[0][0].at = fake_kernel::slot_state::stage::serving;
    }
    const ublk::detail::control_ticket ticket = control.begin_stop(5);
    EXPECT_FALSE(control.finish_stop(ticket, 5, 1ms));
    EXPECT_FALSE(control.finish_stop(ticket, 5, 1ms));
    {
        const std::lock_guard lock{kernel.driver->mutex};
        kernel.driver->tags[0][0].at = fake_kernel::slot_state::stage::gone;
    }
    EXPECT_TRUE(control.finish_stop(ticket, 5, 1s));
}

TEST_F(control_test, recovery_is_begun_once_nobody_has_the_device_open) {
    kernel.driver->script[ctrl::start_user_recovery] = {manner::refuse, EBUSY};
    EXPECT_FALSE(control.start_user_recovery(5));
    expect_sent(ctrl::start_user_recovery, 5, 0);
    kernel.driver->script[ctrl::start_user_recovery] = {manner::refuse, 0};
    EXPECT_TRUE(control.start_user_recovery(5));
    kernel.driver->script[ctrl::end_user_recovery] = {manner::refuse, 0};
    control.end_user_recovery(5, 4711);
    expect_sent(ctrl::end_user_recovery, 5, 0, 4711);
}

TEST_F(control_test, quiesce_carries_milliseconds_and_tells_when_no_tag_was_idle) {
    kernel.driver->script[ctrl::quiesce_dev] = {manner::refuse, 0};
    EXPECT_TRUE(control.quiesce_dev(5, 70ms));
    expect_sent(ctrl::quiesce_dev, 5, 0, 70);
    kernel.driver->script[ctrl::quiesce_dev] = {manner::refuse, EBUSY};
    EXPECT_FALSE(control.quiesce_dev(5, 70ms));
}

TEST_F(control_test, a_try_to_stop_tells_that_somebody_has_the_disk_open) {
    kernel.driver->script[ctrl::try_stop_dev] = {manner::refuse, 0};
    EXPECT_TRUE(control.try_stop_dev(5, 70ms));
    expect_sent(ctrl::try_stop_dev, 5, 0);
    kernel.driver->script[ctrl::try_stop_dev] = {manner::refuse, EBUSY};
    EXPECT_FALSE(control.try_stop_dev(5, 70ms));
}

TEST_F(control_test, a_size_goes_in_sectors_and_only_in_whole_blocks) {
    kernel.driver->params.basic.logical_bs_shift = 12;
    kernel.driver->script[ctrl::update_size] = {manner::refuse, 0};
    control.update_size(5, 1u << 20);
    expect_sent(ctrl::update_size, 5, 0, 2048);
    const std::size_t sent = kernel.driver->log.size();
    for (const std::uint64_t wrong :
         {std::uint64_t{0}, std::uint64_t{4096 + 512}, std::uint64_t{1}, std::uint64_t{1} << 63}) {
        try {
            control.update_size(5, wrong);
            ADD_FAILURE() << wrong;
        } catch (const ublk::error& e) {
            EXPECT_EQ(e.errno_value(), EINVAL) << wrong;
            EXPECT_NE(std::string{e.remedy()}.find("4096"), std::string::npos) << e.what();
        }
    }
    for (std::size_t i = sent; i < kernel.driver->log.size(); ++i) {
        EXPECT_NE(kernel.driver->log[i].op, ctrl::update_size) << "nothing is changed";
    }
}

TEST_F(control_test, memory_is_registered_in_whole_pages) {
    kernel.driver->script[ctrl::reg_buf] = {manner::refuse, -7};  // the index
    EXPECT_EQ(control.register_memory(5, a_page(), true), 7u);
    expect_sent(ctrl::reg_buf, 5, sizeof(uapi::shmem_buf_reg));
    uapi::shmem_buf_reg sent;
    std::memcpy(&sent, last().payload.data(), sizeof sent);
    EXPECT_EQ(sent.addr, reinterpret_cast<std::uintptr_t>(a_page().data()));
    EXPECT_EQ(sent.len, a_page().size());
    EXPECT_EQ(sent.flags, uapi::shmem_buf_read_only);
    for (const std::span<std::byte> wrong :
         {std::span<std::byte>{}, a_page().first(512), a_page().subspan(512)}) {
        try {
            (void)control.register_memory(5, wrong, false);
            ADD_FAILURE();
        } catch (const ublk::error& e) {
            EXPECT_EQ(e.errno_value(), EINVAL);
        }
    }
    kernel.driver->script[ctrl::unreg_buf] = {manner::refuse, 0};
    control.unregister_memory(5, 7);
    expect_sent(ctrl::unreg_buf, 5, 0, 7);
}

TEST(control, says_why_the_control_node_cannot_be_opened) {
    fake_kernel kernel;
    kernel.driver->control_errno = ENOENT;
    EXPECT_THROW((ublk::detail::control_commands<fake_kernel>{kernel, 1s}), ublk::error);
}

}  // namespace
}  // namespace control_commands_test
