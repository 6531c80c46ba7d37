// SPDX-License-Identifier: MIT
#include <ublk/data/tag_buffers.hpp>

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tag_buffers_test {
namespace {

using ublk::buffer_memory;
using ublk::tag;
using ublk::detail::tag_buffers;

static_assert(!std::is_copy_constructible_v<tag_buffers>);
static_assert(std::is_nothrow_move_constructible_v<tag_buffers>);

// The sanitizers make mlock do nothing.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool mlock_works = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool mlock_works = false;
#else
constexpr bool mlock_works = true;
#endif
#else
constexpr bool mlock_works = true;
#endif

const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));

std::size_t resident_pages(const std::byte* address, std::size_t bytes) {
    std::vector<unsigned char> resident(bytes / page);
    EXPECT_EQ(::mincore(const_cast<std::byte*>(address), bytes, resident.data()), 0);
    return static_cast<std::size_t>(std::count_if(resident.begin(), resident.end(),
                                                  [](unsigned char r) { return (r & 1) != 0; }));
}

void expect_usable(const tag_buffers& all, std::size_t tags, std::size_t stride) {
    EXPECT_EQ(all.stride(), stride);
    for (std::uint16_t i = 0; i < tags; ++i) {
        const std::byte* const one = all[tag{i}];
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(one) % page, 0u);
        EXPECT_EQ(one, all[tag{0}] + i * stride);
        EXPECT_TRUE(std::all_of(one, one + stride, [](std::byte b) { return b == std::byte{0}; }));
    }
    EXPECT_EQ(resident_pages(all[tag{0}], tags * stride), tags * stride / page);
}

TEST(tag_buffers, are_page_aligned_zeroed_resident_and_one_stride_apart) {
    for (const std::size_t stride : {page, 3 * page, 16 * page}) {
        expect_usable(tag_buffers{5, stride, {}}, 5, stride);
    }
}

TEST(tag_buffers, that_may_be_huge_are_so_too) {
    expect_usable(tag_buffers{3, 5 * page, {.kind = buffer_memory::transparent}}, 3, 5 * page);
}

TEST(tag_buffers, of_every_other_tag_do_not_overlap_and_take_half_of_the_memory) {
    for (const std::size_t step : {2u, 3u, 8u}) {
        constexpr std::uint16_t tags = 24;
        const std::size_t stride = 8 * page;
        const tag_buffers all{tags, stride, {}, step};
        EXPECT_EQ(all.stride(), stride);
        const auto first = static_cast<std::uint16_t>(step - 1);
        for (std::uint16_t i = first; i < tags; i = static_cast<std::uint16_t>(i + step)) {
            std::fill_n(all[tag{i}], stride, static_cast<std::byte>(i));
        }
        for (std::uint16_t i = first; i < tags; i = static_cast<std::uint16_t>(i + step)) {
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(all[tag{i}]) % page, 0u);
            EXPECT_EQ(std::count(all[tag{i}], all[tag{i}] + stride, static_cast<std::byte>(i)),
                      static_cast<std::ptrdiff_t>(stride));
        }
        const auto reach = static_cast<std::size_t>(all[tag{tags - 1}] - all[tag{0}]) + stride;
        EXPECT_LE(reach, (tags / step + 2) * stride + tags * page) << step;
    }
}

TEST(tag_buffers, do_not_overlap) {
    const tag_buffers all{4, page, {}};
    for (std::uint16_t i = 0; i < 4; ++i) {
        std::fill_n(all[tag{i}], page, static_cast<std::byte>(i));
    }
    for (std::uint16_t i = 0; i < 4; ++i) {
        EXPECT_EQ(std::count(all[tag{i}], all[tag{i}] + page, static_cast<std::byte>(i)),
                  static_cast<std::ptrdiff_t>(page));
    }
}

TEST(tag_buffers, stay_where_they_are_when_moved) {
    tag_buffers first{2, page, {}};
    const std::byte* const where = first[tag{1}];
    const tag_buffers second{std::move(first)};
    EXPECT_EQ(second[tag{1}], where);
    EXPECT_EQ(second.stride(), page);
}

TEST(tag_buffers, are_locked_where_that_is_allowed) {
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (limit.rlim_cur < 4 * page) {
        GTEST_SKIP() << "too little memory may be locked";
    }
    const auto locked = [] {
        std::ifstream status{"/proc/self/status"};
        for (std::string line; std::getline(status, line);) {
            if (line.rfind("VmLck:", 0) == 0) {
                return std::stoul(line.substr(6)) * 1024;
            }
        }
        return 0ul;
    };
    const std::size_t before = locked();
    const tag_buffers all{4, page, {.lock = true}};
    EXPECT_EQ(all.fallback(), "");
    EXPECT_EQ(locked(), before + (mlock_works ? 4 * page : 0));
}

// In a child without privileges, which would be above the limit.
[[noreturn]] void lock_more_than_allowed() {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_MEMLOCK, &none) != 0 || (::geteuid() == 0 && ::setuid(65534) != 0)) {
        std::_Exit(2);
    }
    try {
        const tag_buffers some{4, page, {.lock = true}};
        const bool outcome =
            some.fallback().find("16384 bytes exceed the limit on locked memory") !=
            std::string::npos;
        if (!outcome || some[tag{3}][0] != std::byte{0}) {
            std::fprintf(stderr, "%s\n", some.fallback().c_str());
            std::_Exit(4);
        }
        const tag_buffers all{4, page, {.lock = true, .insist = true}};
    } catch (const ublk::error& e) {
        std::fprintf(stderr, "%s\n", e.what());
        std::_Exit(e.errno_value() == ENOMEM || e.errno_value() == EPERM ? 0 : 3);
    }
    std::_Exit(1);
}

TEST(tag_buffers, that_may_not_be_locked_say_how_much_and_what_to_do) {
    if (!mlock_works) {
        GTEST_SKIP() << "the sanitizers make mlock do nothing";
    }
    EXPECT_EXIT(lock_more_than_allowed(), ::testing::ExitedWithCode(0),
                "locking tag buffers failed.*" + std::to_string(4 * page) +
                    " bytes exceed the limit on locked memory.*ulimit -l");
}

TEST(tag_buffers, on_huge_pages_fail_clearly_where_none_are_reserved) {
    std::ifstream reserved{"/proc/sys/vm/nr_hugepages"};
    int count = 0;
    if (!(reserved >> count) || count != 0) {
        GTEST_SKIP() << "this machine has huge pages";
    }
    try {
        const tag_buffers all{2, page, {.kind = buffer_memory::huge, .insist = true}};
        FAIL() << "vm.nr_hugepages is 0";
    } catch (const ublk::error& e) {
        EXPECT_EQ(e.errno_value(), ENOMEM);
        EXPECT_EQ(e.command(), "allocating tag buffers in huge pages");
        EXPECT_NE(e.remedy().find("vm.nr_hugepages"), std::string::npos);
        EXPECT_NE(e.remedy().find("buffer_memory::transparent"), std::string::npos);
    }
}

TEST(tag_buffers, on_huge_pages_do_without_where_none_are_reserved) {
    std::ifstream reserved{"/proc/sys/vm/nr_hugepages"};
    int count = 0;
    if (!(reserved >> count) || count != 0) {
        GTEST_SKIP() << "this machine has huge pages";
    }
    const tag_buffers all{2, page, {.kind = buffer_memory::huge}};
    EXPECT_EQ(all.fallback(),
              "allocating tag buffers in huge pages failed: Cannot allocate memory, "
              "too few huge pages are reserved");
    expect_usable(tag_buffers{2, page, {.kind = buffer_memory::huge}}, 2, page);
}

TEST(tag_buffers, that_do_not_fit_into_the_address_space_say_so) {
    try {
        const tag_buffers all{4096, std::size_t{1} << 36, {}};
        FAIL();
    } catch (const ublk::error& e) {
        EXPECT_EQ(e.errno_value(), ENOMEM);
        EXPECT_NE(e.remedy().find("less depth"), std::string::npos);
    }
}

}  // namespace
}  // namespace tag_buffers_test
