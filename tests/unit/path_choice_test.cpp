// SPDX-License-Identifier: MIT
#include <ublk/backend.hpp>
#include <ublk/backends/memory.hpp>
#include <ublk/backends/null.hpp>
#include <ublk/data_path.hpp>
#include <ublk/device/path_choice.hpp>
#include <ublk/io.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace path_choice_test {
namespace {

using ublk::data_path;
using ublk::io;
using ublk::ok;
using ublk::registered_buffer;
using ublk::request;
using ublk::result;
using ublk::task;
using ublk::detail::path_choice;
using ublk::detail::path_facts;
using enum ublk::data_path;
namespace feature = ublk::uapi::feature;
using paths = std::vector<data_path>;
using bytes = std::span<std::byte>;
using const_bytes = std::span<const std::byte>;

constexpr std::array all_paths{copy,      fixed_copy, user_copy,   get_data,
                               zero_copy, pages,      auto_buffer, thread_copy};

// ---------------------------------------------------------------- names and properties

TEST(data_path, names_come_back_as_what_they_name) {
    std::set<std::string_view> names;
    for (const data_path each : all_paths) {
        EXPECT_EQ(ublk::data_path_named(to_string(each)), each);
        names.insert(to_string(each));
    }
    EXPECT_EQ(names.size(), all_paths.size());
    EXPECT_EQ(ublk::data_path_names.size(), all_paths.size());
}

TEST(data_path, nothing_else_has_a_name) {
    for (const std::string_view other :
         {"", "Copy", "copy ", "zero-copy", "auto_buf", "gets_data"}) {
        EXPECT_EQ(ublk::data_path_named(other), std::nullopt) << other;
    }
}

TEST(data_path, needs_what_the_driver_calls_it) {
    EXPECT_EQ(features_of(copy), 0u);
    EXPECT_EQ(features_of(fixed_copy), 0u);
    EXPECT_EQ(features_of(user_copy), feature::user_copy);
    EXPECT_EQ(features_of(thread_copy), feature::user_copy);
    EXPECT_EQ(features_of(get_data), feature::need_get_data);
    EXPECT_EQ(features_of(zero_copy), feature::support_zero_copy);
    EXPECT_EQ(features_of(pages), feature::support_zero_copy | feature::buf_reg_off_daemon);
    EXPECT_EQ(features_of(auto_buffer), feature::auto_buf_reg | feature::support_zero_copy);
    for (const data_path each : all_paths) {
        EXPECT_EQ(ublk::conflict(features_of(each)), std::nullopt) << to_string(each);
        EXPECT_EQ(has_tag_buffers(each), each == copy || each == fixed_copy);
        EXPECT_EQ(registers_requests(each), each == zero_copy || each == auto_buffer);
    }
}

// ---------------------------------------------------------------- backends of each kind

struct sized {
    std::uint64_t size() const noexcept { return 1u << 20; }
};
struct by_span : sized {
    result read(const request&, bytes) noexcept { return ok; }
    result write(const request&, const_bytes) noexcept { return ok; }
};
struct by_user_copy : sized {
    result read(const request&, ublk::user_copy) noexcept { return ok; }
    result write(const request&, ublk::user_copy) noexcept { return ok; }
};
struct by_registered : sized {
    task read(io&, const request&, registered_buffer) { return ok; }
    task write(io&, const request&, registered_buffer) { return ok; }
};
struct by_pages : sized {
    task read(io&, const request&, ublk::client_pages) { return ok; }
    task write(io&, const request&, ublk::client_pages) { return ok; }
};
struct by_all : by_span, by_user_copy, by_registered, by_pages {
    using by_registered::read, by_user_copy::read, by_span::read, by_pages::read;
    using by_registered::write, by_user_copy::write, by_span::write, by_pages::write;
    std::uint64_t size() const noexcept { return 1u << 20; }
    bytes memory_for(const request&) noexcept { return {}; }
};
struct by_coroutine : sized {
    task read(io&, const request&, bytes) { return ok; }
    task write(io&, const request&, const_bytes) { return ok; }
};
struct reads_registered : sized {
    static constexpr bool read_only = true;
    task read(io&, const request&, registered_buffer) { return ok; }
};
struct half : by_span {
    using by_span::read;
    result read(const request&, ublk::user_copy) noexcept { return ok; }  // and no write
};

template <class B>
paths offered() {
    paths all;
    const auto add = [&all](data_path path, bool offers) {
        if (offers) {
            all.push_back(path);
        }
    };
    add(copy, ublk::offers<B>(copy));
    add(fixed_copy, ublk::offers<B>(fixed_copy));
    add(user_copy, ublk::offers<B>(user_copy));
    add(get_data, ublk::offers<B>(get_data));
    add(zero_copy, ublk::offers<B>(zero_copy));
    add(pages, ublk::offers<B>(pages));
    add(auto_buffer, ublk::offers<B>(auto_buffer));
    add(thread_copy, ublk::offers<B>(thread_copy));
    return all;
}

TEST(path_choice, a_backend_offers_what_it_has_functions_for) {
    EXPECT_EQ(offered<by_span>(), (paths{copy, thread_copy}));
    EXPECT_EQ(offered<by_user_copy>(), paths{user_copy});
    EXPECT_EQ(offered<by_registered>(), (paths{fixed_copy, zero_copy, auto_buffer}));
    EXPECT_EQ(offered<by_pages>(), paths{pages});
    EXPECT_EQ(offered<reads_registered>(), (paths{fixed_copy, zero_copy, auto_buffer}));
    EXPECT_EQ(offered<half>(), (paths{copy, thread_copy}));
    EXPECT_EQ(offered<by_all>(), paths(all_paths.begin(), all_paths.end()));
    EXPECT_EQ(offered<ublk::backends::memory>(), (paths{copy, user_copy, get_data, thread_copy}));
    EXPECT_EQ(offered<by_coroutine>(), paths{copy}) << "it holds its bytes across co_await";
}

// ---------------------------------------------------------------- the ladder

constexpr std::uint64_t everything = ublk::known_features;

constexpr path_facts facts(std::uint64_t known = everything) {
    return {.known = known, .tags_a_thread = 128};
}

paths in_order(const ublk::detail::path_ladder& candidates) {
    paths all;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        all.push_back(candidates[i]);
    }
    return all;
}

template <class B>
paths ladder(const path_facts& known, std::optional<data_path> requested = {}) {
    return in_order(ublk::detail::choose_path(ublk::offers<B>, requested, known).candidates);
}

TEST(path_choice, tries_the_path_with_the_fewest_copies_first) {
    EXPECT_EQ(ladder<by_all>(facts()), (paths{auto_buffer, zero_copy, pages, get_data, user_copy,
                                              fixed_copy, copy, thread_copy}));
    EXPECT_EQ(ladder<by_registered>(facts()), (paths{auto_buffer, zero_copy, fixed_copy}));
    EXPECT_EQ(ladder<ublk::backends::memory>(facts()),
              (paths{get_data, user_copy, copy, thread_copy}));
    EXPECT_EQ(ladder<by_span>(facts()), (paths{copy, thread_copy}));
    EXPECT_EQ(ublk::detail::choose_path(ublk::offers<by_all>, {}, facts()).reason, "");
}

// Each set of the features that matter: the ladder holds what they allow, in its order.
TEST(path_choice, leaves_out_what_the_driver_does_not_know) {
    constexpr std::array bits{feature::support_zero_copy, feature::need_get_data,
                              feature::user_copy, feature::auto_buf_reg,
                              feature::buf_reg_off_daemon};
    for (unsigned set = 0; set < 32; ++set) {
        std::uint64_t known = 0;
        for (unsigned i = 0; i < bits.size(); ++i) {
            known |= (set >> i & 1) != 0 ? bits[i] : 0;
        }
        const path_choice choice =
            ublk::detail::choose_path(ublk::offers<by_all>, {}, facts(known));
        paths expected;
        for (const data_path each :
             {auto_buffer, zero_copy, pages, get_data, user_copy, fixed_copy, copy, thread_copy}) {
            const bool possible = (features_of(each) & ~known) == 0;
            if (possible) {
                expected.push_back(each);
            }
            EXPECT_EQ(choice.reason.find("not " + std::string{to_string(each)} + ":") !=
                          std::string::npos,
                      !possible && each != thread_copy)
                << choice.reason;
        }
        EXPECT_EQ(in_order(choice.candidates), expected);
    }
}

TEST(path_choice, says_what_is_missing_and_since_when_there_is_such_a_thing) {
    EXPECT_EQ(ublk::detail::choose_path(ublk::offers<by_all>, {}, facts(0)).reason,
              "not auto_buffer: the driver has no SUPPORT_ZERO_COPY|AUTO_BUF_REG, which came with "
              "Linux 6.16; "
              "not zero_copy: the driver has no SUPPORT_ZERO_COPY, which came with Linux 6.15; "
              "not pages: the driver has no SUPPORT_ZERO_COPY|BUF_REG_OFF_DAEMON, which came with "
              "Linux 6.17; "
              "not get_data: the driver has no NEED_GET_DATA, which came with Linux 6.0; "
              "not user_copy: the driver has no USER_COPY, which came with Linux 6.5");
    EXPECT_EQ(ublk::detail::choose_path(ublk::offers<by_registered>, {},
                                        facts(feature::support_zero_copy))
                  .reason,
              "not auto_buffer: the driver has no AUTO_BUF_REG, which came with Linux 6.16");
}

// The release is that of what is missing, and not of all that the path needs.
TEST(path_choice, names_the_release_of_what_is_missing) {
    EXPECT_EQ(
        ublk::detail::choose_path(ublk::offers<by_registered>, {}, facts(feature::auto_buf_reg))
            .reason,
        "not auto_buffer: the driver has no SUPPORT_ZERO_COPY, which came with Linux 6.15; "
        "not zero_copy: the driver has no SUPPORT_ZERO_COPY, which came with Linux 6.15");
}

TEST(path_choice, leaves_out_what_was_refused_when_it_was_tried) {
    path_facts known = facts();
    EXPECT_EQ(ladder<by_registered>(known), (paths{auto_buffer, zero_copy, fixed_copy}));
    const std::pair<ublk::data_path, std::string> refused[] = {{fixed_copy, "no room"},
                                                               {auto_buffer, "no table"}};
    known.refused = refused;
    EXPECT_EQ(ladder<by_registered>(known), paths{zero_copy});
    EXPECT_EQ(ublk::detail::choose_path(ublk::offers<by_registered>, {}, known).reason,
              "not auto_buffer: no table; not fixed_copy: no room");
    EXPECT_EQ(ladder<by_span>(known), (paths{copy, thread_copy}));
}

TEST(path_choice, spares_tag_buffers_that_would_take_too_much) {
    path_facts known = facts();
    known.tag_buffers = 2048;
    known.tag_buffers_max = 2048;
    EXPECT_EQ(ladder<by_span>(known), (paths{copy, thread_copy}));
    known.tag_buffers_max = 1024;
    const path_choice choice = ublk::detail::choose_path(ublk::offers<by_span>, {}, known);
    EXPECT_EQ(in_order(choice.candidates), (paths{thread_copy, copy}));
    EXPECT_EQ(choice.why(), "tag buffers would take 2 KiB, and may take 1");
    EXPECT_EQ(ladder<by_span>(known, copy), paths{copy}) << "it was asked for";
    EXPECT_EQ(ladder<by_coroutine>(known), paths{copy}) << "there is no other";
    EXPECT_EQ(ladder<ublk::backends::memory>(known),
              (paths{get_data, user_copy, copy, thread_copy}))
        << "the first has none";
    known.known = 0;
    EXPECT_EQ(ladder<by_span>(known), paths{copy});
    known = facts();
    known.tag_buffers = 1;
    known.tag_buffers_max = 0;
    known.batch_io = true;
    EXPECT_EQ(ladder<by_span>(known), paths{copy}) << "the driver's batches have no other";
}

TEST(path_choice, registers_no_more_buffers_than_a_ring_takes) {
    path_facts known = facts();
    known.tags_a_thread = 16384;
    EXPECT_EQ(ladder<by_all>(known).size(), 8u);
    known.tags_a_thread = 16385;
    EXPECT_EQ(ladder<by_all>(known), (paths{pages, get_data, user_copy, copy, thread_copy}));
    const std::string why =
        ": a ring registers at most 16384 buffers, and one thread serves 16385 tags";
    EXPECT_EQ(ublk::detail::choose_path(ublk::offers<by_all>, {}, known).reason,
              "not auto_buffer" + why + "; not zero_copy" + why + "; not fixed_copy" + why);
}

TEST(path_choice, tries_first_what_the_backend_prefers_and_then_the_rest_in_order) {
    path_facts known = facts();
    known.preferred = user_copy;
    const path_choice choice = ublk::detail::choose_path(ublk::offers<by_all>, {}, known);
    EXPECT_EQ(in_order(choice.candidates), (paths{user_copy, auto_buffer, zero_copy, pages,
                                                  get_data, fixed_copy, copy, thread_copy}));
    EXPECT_EQ(choice.reason, "the backend prefers it");
    EXPECT_EQ(ladder<by_span>(known), (paths{copy, thread_copy}));  // which has no such functions
    known.known = 0;
    EXPECT_EQ(ladder<by_all>(known), (paths{fixed_copy, copy}));
    EXPECT_EQ(ladder<by_all>(known, copy), paths{copy});
}

// ---------------------------------------------------------------- a path that is asked for

TEST(path_choice, takes_the_path_that_is_asked_for_and_no_other) {
    for (const data_path each : all_paths) {
        const path_choice choice = ublk::detail::choose_path(ublk::offers<by_all>, each, facts());
        EXPECT_EQ(in_order(choice.candidates), paths{each});
        EXPECT_EQ(choice.reason, "");
    }
    EXPECT_EQ(ladder<by_all>(facts(0), copy), paths{copy});
}

template <class B>
ublk::error refusal(std::optional<data_path> requested, const path_facts& known) {
    try {
        (void)ublk::detail::choose_path(ublk::offers<B>, requested, known);
    } catch (const ublk::error& refused) {
        EXPECT_EQ(refused.errno_value(), EOPNOTSUPP);
        EXPECT_EQ(refused.command(), "choosing the data path");
        return refused;
    }
    ADD_FAILURE() << "a path in spite of all";
    return {0, "", {}, "", ""};
}

TEST(path_choice, refuses_a_path_that_cannot_be) {
    const ublk::error driver = refusal<by_all>(zero_copy, facts(feature::user_copy));
    EXPECT_EQ(driver.cause(),
              "not zero_copy: the driver has no SUPPORT_ZERO_COPY, which came with Linux 6.15");
    EXPECT_EQ(driver.remedy(), "leave options::path empty, so that the best possible one is taken");

    EXPECT_EQ(refusal<by_span>(get_data, facts()).cause(),
              "not get_data: the backend has no read and write that take their bytes that way");
    path_facts known = facts();
    known.tags_a_thread = 1u << 15;
    EXPECT_NE(refusal<by_all>(zero_copy, known).cause().find("32768 tags"), std::string_view::npos);
}

TEST(path_choice, refuses_a_backend_that_this_driver_cannot_serve) {
    const ublk::error none = refusal<by_user_copy>({}, facts(0));
    EXPECT_EQ(none.cause(),
              "not user_copy: the driver has no USER_COPY, which came with Linux 6.5");
    EXPECT_EQ(none.remedy(), "use a newer kernel, or give the backend functions that take a span");
}

}  // namespace
}  // namespace path_choice_test
