// SPDX-License-Identifier: MIT
#include "../support/listener.hpp"

#include <ublk/device/event_report.hpp>
#include <ublk/kernel/linux_kernel.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace event_report_test {
namespace {

using namespace std::chrono_literals;
using ublk::event;
using ublk::request;
using ublk::detail::request_failure;
using ublk_test::listener;
using report = ublk::detail::event_report<ublk::detail::linux_kernel>;
namespace uapi = ublk::uapi;

request_failure failure_of(event::kind what = event::kind::exception) {
    request_failure made;
    made.why = what;
    made.op = uapi::op::discard;
    made.queue = 3;
    made.tag = 17;
    made.offset = 4096;
    made.length = 512;
    made.bytes = 3000;
    made.say("no");
    return made;
}

// ---------------------------------------------------------------- in words

TEST(request_failure, names_the_request_and_the_reason) {
    EXPECT_EQ(sentence(failure_of()), "DISCARD of 512 bytes at 4096 (queue 3, tag 17) failed with "
                                      "EIO: the backend threw: no");
    const std::string much = sentence(failure_of(event::kind::task_memory));
    EXPECT_NE(much.find("take 3000 bytes or more"), much.npos) << much;
    EXPECT_NE(much.find("task_bytes = 3072;"), much.npos) << much;
    const std::string never = sentence(failure_of(event::kind::never_ran));
    EXPECT_NE(never.find("const auto answer = co_await ...;"), never.npos) << never;
}

TEST(request_failure, cuts_off_what_is_long) {
    request_failure made;
    made.say(std::string(5000, 'x'));
    EXPECT_EQ(std::strlen(made.words.data()), made.words.size() - 1);
    made.say("short");
    EXPECT_STREQ(made.words.data(), "short");
}

TEST(request_failure, says_what_an_exception_says) {
    request_failure made;
    made.say(std::make_exception_ptr(std::runtime_error{"the cable"}));
    EXPECT_STREQ(made.words.data(), "the cable");
    made.say(std::make_exception_ptr(7));
    EXPECT_STREQ(made.words.data(), "an exception that is no std::exception");
}

TEST(request_failure, an_unknown_operation_has_a_number) {
    request_failure made;
    made.op = static_cast<uapi::op>(99);
    EXPECT_EQ(sentence(made).rfind("operation 99 of ", 0), 0u);
}

// ---------------------------------------------------------------- the hook

TEST(event_hook, is_empty_or_calls_a_function_with_its_state) {
    const ublk::event_hook none;
    EXPECT_FALSE(none);
    std::string heard;
    const ublk::event_hook hook = [&heard, prefix = std::string{"> "}](const event& e) {
        heard += prefix + to_string(e);
    };
    ASSERT_TRUE(hook);
    const ublk::event_hook copy = hook;
    copy({event::kind::setup, 7, "data path copy"});
    EXPECT_EQ(heard, "> ublk: device 7: data path copy");
}

TEST(event_hook, copies_share_the_state) {
    const ublk::event_hook hook = [count = 0](const event&) mutable {
        if (++count == 2) {
            throw count;
        }
    };
    const ublk::event_hook copy = hook;
    hook({});
    EXPECT_THROW(copy({}), int);
}

// ---------------------------------------------------------------- who is told, and how often

TEST(event_report, without_failures_there_is_no_thread) {
    (void)listener::take();
    { const report quiet{ublk::detail::linux_kernel{}, listener::log, 5}; }
    EXPECT_TRUE(listener::take().empty());
}

TEST(event_report, without_a_hook_nothing_happens) {
    report nobody{ublk::detail::linux_kernel{}, {}, 5};
    nobody.note(failure_of());
    nobody.finish(1h);
}

TEST(event_report, tells_at_once_and_names_the_device) {
    (void)listener::take();
    report some{ublk::detail::linux_kernel{}, listener::log, 5};
    some.note(failure_of());
    std::vector<std::string> told;
    for (int i = 0; i < 6000 && told.empty(); ++i) {
        std::this_thread::sleep_for(10ms);
        told = listener::take();
    }
    ASSERT_EQ(told.size(), 1u);
    EXPECT_EQ(told[0], "ublk: device 5: " + sentence(failure_of()));
}

TEST(event_report, tells_that_a_thread_is_lost) {
    std::vector<event> told;
    report some{ublk::detail::linux_kernel{}, [&](const event& e) { told.push_back(e); }, 5};
    some.note_thread_lost(-ENODEV);
    some.finish(1min);
    ASSERT_EQ(told.size(), 1u);
    EXPECT_EQ(told[0].type, event::kind::thread_lost);
    EXPECT_EQ(told[0].device, 5u);
    EXPECT_NE(told[0].message.find("No such device"), std::string::npos) << told[0].message;
}

TEST(event_report, a_lost_thread_is_told_before_many_requests_and_never_dropped) {
    std::mutex mutex;
    std::vector<event> told;
    report some{ublk::detail::linux_kernel{},
                [&](const event& e) {
                    const std::lock_guard lock{mutex};
                    told.push_back(e);
                },
                5};
    for (int i = 0; i < 100; ++i) {  // more than wait, and than are told at once
        some.note(failure_of());
    }
    some.note_thread_lost(-EIO);
    some.note_thread_lost(-ENODEV);
    const auto lost = [&] {
        const std::lock_guard lock{mutex};
        return std::ranges::count(told, event::kind::thread_lost, &event::type);
    };
    for (int i = 0; i < 6000 && lost() == 0; ++i) {
        std::this_thread::sleep_for(10ms);
    }
    EXPECT_EQ(lost(), 1) << "with the first error";
    some.finish(1min);
}

TEST(event_hook, of_nothing_is_none) {
    void (*const none)(const event&) = nullptr;
    EXPECT_FALSE(ublk::event_hook{none});
    EXPECT_FALSE(ublk::event_hook{std::function<void(const event&)>{}});
    EXPECT_TRUE(ublk::event_hook{std::function<void(const event&)>{[](const event&) {}}});
}

TEST(event_report, a_fault_of_the_program_is_told_once) {
    (void)listener::take();
    report some{ublk::detail::linux_kernel{}, listener::log, 5};
    for (int i = 0; i < 100; ++i) {
        some.note(failure_of(event::kind::task_memory));
        some.note(failure_of(event::kind::never_ran));
    }
    some.finish(1min);
    EXPECT_EQ(listener::take().size(), 2u);
}

TEST(event_report, what_comes_fast_is_told_slowly_and_counted) {
    (void)listener::take();
    report some{ublk::detail::linux_kernel{}, listener::log, 5};
    const auto begun = std::chrono::steady_clock::now();
    unsigned noted = 0;
    while (std::chrono::steady_clock::now() - begun < 3s) {
        some.note(failure_of());
        ++noted;
        std::this_thread::sleep_for(1ms);
    }
    const std::size_t meanwhile = listener::take().size();
    EXPECT_GE(meanwhile, 8u);
    EXPECT_LE(meanwhile, 8u + 4 +
                             std::chrono::duration_cast<std::chrono::seconds>(
                                 std::chrono::steady_clock::now() - begun)
                                 .count());
    EXPECT_GT(noted, meanwhile);
    some.finish(1min);
}

TEST(event_report, after_its_end_nobody_is_told) {
    (void)listener::take();
    report some{ublk::detail::linux_kernel{}, listener::log, 5};
    some.note(failure_of());
    some.finish(1min);
    EXPECT_EQ(listener::take().size(), 1u);
    some.note(failure_of());
    some.finish(1min);
    EXPECT_TRUE(listener::take().empty());
}

TEST(event_report, goes_on_after_a_hook_that_throws) {
    static std::atomic<unsigned> came{0};
    report some{ublk::detail::linux_kernel{},
                [](const event&) {
                    ++came;
                    throw std::runtime_error{"full"};
                },
                5};
    some.note(failure_of());
    some.note(failure_of());
    some.finish(1min);
    EXPECT_EQ(came, 2u);
}

TEST(event_report, leaves_a_hook_behind_that_does_not_return) {
    static std::atomic<bool> over{false};
    static std::atomic<bool> gone{false};
    static std::atomic<unsigned> came{0};
    const auto begun = std::chrono::steady_clock::now();
    {
        report some{ublk::detail::linux_kernel{},
                    [](const event&) {
                        ++came;
                        while (!over) {
                            std::this_thread::sleep_for(1ms);
                        }
                        gone = true;
                    },
                    5};
        for (int i = 0; i < 100; ++i) {
            some.note(failure_of());
        }
        some.finish(100ms);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 30s);
    EXPECT_LE(came, 1u);
    over = true;
    for (int i = 0; i < 6000 && came != 0 && !gone; ++i) {
        std::this_thread::sleep_for(10ms);
    }
}

}  // namespace
}  // namespace event_report_test
