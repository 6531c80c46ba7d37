// SPDX-License-Identifier: MIT
#include <ublk/backends/memory.hpp>

#include <ublk/data/dispatch.hpp>
#include <ublk/detail/fd.hpp>
#include <ublk/detail/written_units.hpp>
#include <ublk/payload.hpp>

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace memory_test {
namespace {

using ublk::request;
using ublk::backends::memory;
namespace uapi = ublk::uapi;

static_assert(ublk::backend<memory> && ublk::check_backend<memory>());

const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));

constexpr std::uint64_t unit = ublk::detail::written_units::unit;

request asking(uapi::op op, std::uint64_t offset, std::uint64_t length) {
    return request{uapi::io_desc{static_cast<std::uint32_t>(op),
                                 static_cast<std::uint32_t>(length / 512), offset / 512, 0},
                   ublk::queue_id{0}, ublk::tag{0}};
}

void write(memory& disk, std::uint64_t offset, const std::vector<std::byte>& data) {
    EXPECT_TRUE(disk.write(asking(uapi::op::write, offset, data.size()), data).ok());
}

std::vector<std::byte> read(memory& disk, std::uint64_t offset, std::size_t bytes) {
    std::vector<std::byte> data(bytes, std::byte{0xee});
    EXPECT_TRUE(disk.read(asking(uapi::op::read, offset, bytes), data).ok());
    return data;
}

/// A file in the place of /dev/ublkcN, with the client's bytes at its begin.
std::vector<std::byte> read_by_user_copy(memory& disk, std::uint64_t offset, std::size_t bytes) {
    const ublk::fd client{::memfd_create("client", MFD_CLOEXEC)};
    EXPECT_TRUE(
        disk.read(asking(uapi::op::read, offset, bytes), ublk::user_copy{client.get(), 0, bytes})
            .ok());
    std::vector<std::byte> data(bytes, std::byte{0xee});
    EXPECT_EQ(::pread(client.get(), data.data(), bytes, 0), static_cast<ssize_t>(bytes));
    return data;
}

void write_by_user_copy(memory& disk, std::uint64_t offset, const std::vector<std::byte>& data) {
    const ublk::fd client{::memfd_create("client", MFD_CLOEXEC)};
    EXPECT_EQ(::pwrite(client.get(), data.data(), data.size(), 0),
              static_cast<ssize_t>(data.size()));
    EXPECT_TRUE(disk.write(asking(uapi::op::write, offset, data.size()),
                           ublk::user_copy{client.get(), 0, data.size()})
                    .ok());
}

// Bytes of anonymous memory that this process has in use.
std::size_t anonymous_memory() {
    std::ifstream rollup{"/proc/self/smaps_rollup"};
    for (std::string line; std::getline(rollup, line);) {
        if (line.rfind("Anonymous:", 0) == 0) {
            return std::stoul(line.substr(10)) * 1024;
        }
    }
    ADD_FAILURE() << "no smaps_rollup";
    return 0;
}

TEST(memory, is_described_as_it_was_made) {
    const memory plain{1u << 20};
    EXPECT_EQ(plain.size(), 1u << 20);
    EXPECT_EQ(plain.logical_block_size(), 512u);
    EXPECT_EQ(plain.physical_block_size(), page);
    EXPECT_FALSE(plain.read_only());
    const memory special{1u << 20, {4096, true}};
    EXPECT_EQ(special.logical_block_size(), 4096u);
    EXPECT_TRUE(special.read_only());
    const ublk::disk_attributes disk = ublk::attributes_of(special);
    EXPECT_NO_THROW(ublk::validate(disk, static_cast<std::uint32_t>(page)));
    EXPECT_TRUE(disk.discards);
    EXPECT_NE(disk.max_write_zeroes_size, 0u);
    EXPECT_FALSE(disk.volatile_cache);
}

TEST(memory, starts_with_zeroes) {
    memory disk{3 * 512};
    EXPECT_EQ(read(disk, 0, 3 * 512), std::vector<std::byte>(3 * 512));
}

TEST(memory, gives_back_what_was_written) {
    memory disk{1u << 20};
    const std::vector<std::byte> data(3 * 512, std::byte{0x42});
    write(disk, 7 * 512, data);
    EXPECT_EQ(read(disk, 7 * 512, data.size()), data);
    EXPECT_EQ(read(disk, 6 * 512, 512), std::vector<std::byte>(512));
    EXPECT_EQ(read(disk, 10 * 512, 512), std::vector<std::byte>(512));
    write(disk, (1u << 20) - data.size(), data);
    EXPECT_EQ(read(disk, (1u << 20) - data.size(), data.size()), data);
}

TEST(memory, keeps_its_content_when_moved) {
    memory first{1u << 16};
    write(first, 512, std::vector<std::byte>(512, std::byte{9}));
    memory second{std::move(first)};
    EXPECT_EQ(read(second, 512, 512), std::vector<std::byte>(512, std::byte{9}));
}

// Around page boundaries, for each way to zero: nothing more and nothing less than was asked.
TEST(memory, discards_and_zeroes_exactly_what_is_asked_at_every_edge) {
    const std::uint64_t bytes = 4 * page;
    const std::uint64_t steps[] = {
        0,        512,      page - 512,     page,        page + 512, 2 * page - 512,
        2 * page, 3 * page, 3 * page + 512, bytes - 512, bytes};
    for (const auto op : {uapi::op::discard, uapi::op::write_zeroes}) {
        for (const std::uint64_t from : steps) {
            for (const std::uint64_t to : steps) {
                if (from >= to) {
                    continue;
                }
                memory disk{bytes};
                write(disk, 0, std::vector<std::byte>(bytes, std::byte{0xff}));
                const request r = asking(op, from, to - from);
                EXPECT_TRUE(
                    (op == uapi::op::discard ? disk.discard(r) : disk.write_zeroes(r)).ok());
                std::vector<std::byte> expected(bytes, std::byte{0xff});
                std::fill(expected.begin() + static_cast<std::ptrdiff_t>(from),
                          expected.begin() + static_cast<std::ptrdiff_t>(to), std::byte{0});
                EXPECT_TRUE(read(disk, 0, bytes) == expected) << from << " to " << to;
            }
        }
    }
}

/// The last `bytes` of the disk, which are all zeroes so far.
void behaves_like_a_vector(memory& disk, std::uint64_t bytes, int operations) {
    const std::uint32_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random{seed};
    const auto below = [&](std::uint64_t end) { return random() % end; };
    const std::uint64_t begin = disk.size() - bytes;
    std::vector<std::byte> model(bytes);
    for (int i = 0; i < operations; ++i) {
        const std::uint64_t from = below(bytes / 512) * 512;
        const std::uint64_t length = (1 + below((bytes - from) / 512)) * 512;
        const auto at = model.begin() + static_cast<std::ptrdiff_t>(from);
        const auto end = at + static_cast<std::ptrdiff_t>(length);
        const std::uint64_t offset = begin + from;
        switch (below(6)) {
        case 0:
            ASSERT_TRUE(read(disk, offset, length) == std::vector<std::byte>(at, end));
            break;
        case 1:
            ASSERT_TRUE(read_by_user_copy(disk, offset, length) == std::vector<std::byte>(at, end));
            break;
        case 2:
        case 3: {
            const std::vector<std::byte> data(length, static_cast<std::byte>(random()));
            below(2) == 0 ? write(disk, offset, data) : write_by_user_copy(disk, offset, data);
            std::copy(data.begin(), data.end(), at);
            break;
        }
        case 4:
            ASSERT_TRUE(disk.discard(asking(uapi::op::discard, offset, length)).ok());
            std::fill(at, end, std::byte{0});
            break;
        default:
            ASSERT_TRUE(disk.write_zeroes(asking(uapi::op::write_zeroes, offset, length)).ok());
            std::fill(at, end, std::byte{0});
        }
    }
    EXPECT_TRUE(read(disk, begin, bytes) == model);
}

// Sizes that are no whole pages, too: the last page is then half ours.
TEST(memory, behaves_like_a_vector_under_random_operations) {
    for (const std::uint64_t bytes :
         {16 * std::uint64_t{page}, 5 * std::uint64_t{page} + 512, std::uint64_t{512}}) {
        memory disk{bytes};
        behaves_like_a_vector(disk, bytes, 2000);
    }
}

// Requests of one unit and of several, whole and in part, up to an end in the middle of one.
TEST(memory, that_knows_its_holes_behaves_like_a_vector_too) {
    for (const std::uint64_t end : {std::uint64_t{0}, 3 * std::uint64_t{page},
                                    3 * std::uint64_t{page} + 512, std::uint64_t{512}}) {
        for (const std::uint64_t bytes : {std::uint64_t{64} << 10, 4 * unit + 512}) {
            memory disk{memory::tracked_above + 8 * unit + end};
            behaves_like_a_vector(disk, bytes, 300);
        }
    }
}

TEST(memory, gives_whole_pages_back_to_the_system) {
    constexpr std::size_t bytes = 32u << 20;
    constexpr std::size_t slack = 4u << 20;
    memory disk{bytes};
    const std::vector<std::byte> chunk(1u << 20, std::byte{1});
    const std::size_t before = anonymous_memory();
    for (std::uint64_t at = 0; at < bytes; at += chunk.size()) {
        write(disk, at, chunk);
    }
    const std::size_t full = anonymous_memory();
    EXPECT_GT(full, before + bytes - slack);
    EXPECT_TRUE(disk.discard(asking(uapi::op::discard, 0, bytes / 2)).ok());
    EXPECT_LT(anonymous_memory(), full - bytes / 2 + slack);
    EXPECT_TRUE(disk.write_zeroes(asking(uapi::op::write_zeroes, bytes / 2, bytes / 2)).ok());
    EXPECT_LT(anonymous_memory(), full - bytes + slack);  // a sanitizer keeps its own notes
}

#if defined(__SANITIZE_THREAD__)
constexpr bool room_for_a_tebibyte = false;
#elif defined(__has_feature)
constexpr bool room_for_a_tebibyte = !__has_feature(thread_sanitizer);
#else
constexpr bool room_for_a_tebibyte = true;
#endif

// madvise(2) refuses to give locked pages back, which must not become an error of the disk.
TEST(memory, discards_and_zeroes_locked_pages_too) {
    memory disk{16 * page};
    const std::span<std::byte> all = disk.memory_for(asking(uapi::op::write, 0, 16 * page));
    ASSERT_EQ(::mlock(all.data(), all.size()), 0) << "64 KiB may be locked by default";
    for (const bool zeroes : {false, true}) {
        write(disk, 0, std::vector<std::byte>(16 * page, std::byte{7}));
        const request middle = asking(uapi::op::discard, page + 512, 10 * page);
        EXPECT_TRUE((zeroes ? disk.write_zeroes(middle) : disk.discard(middle)).ok());
        std::vector<std::byte> expected(16 * page, std::byte{7});
        std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(page) + 512, 10 * page,
                    std::byte{0});
        EXPECT_EQ(read(disk, 0, 16 * page), expected);
    }
}

// What the kernel was told of the memory of a disk: a line of two letters each.
std::string advice_on(memory& disk) {
    const auto* const begin = disk.memory_for(asking(uapi::op::write, 0, 512)).data();
    std::ostringstream address;
    address << std::hex << reinterpret_cast<std::uintptr_t>(begin) << '-';
    std::ifstream maps{"/proc/self/smaps"};
    bool ours = false;
    for (std::string line; std::getline(maps, line);) {
        ours = ours || line.starts_with(address.str());
        if (ours && line.starts_with("VmFlags:")) {
            return line + ' ';
        }
    }
    return "(nothing)";
}

// With transparent huge pages "always", as Debian has it, 500 scattered blocks would take 1 GB.
TEST(memory, stays_sparse_whatever_the_system_says_of_huge_pages) {
    if (::access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK) != 0) {
        GTEST_SKIP() << "this kernel has no transparent huge pages";
    }
    memory sparse{8u << 20};
    EXPECT_NE(advice_on(sparse).find(" nh "), std::string::npos) << advice_on(sparse);
    memory dense{8u << 20, {.huge_pages = true}};
    EXPECT_NE(advice_on(dense).find(" hg "), std::string::npos) << advice_on(dense);
}

TEST(memory, may_be_far_larger_than_the_machine) {
    constexpr std::uint64_t bytes = room_for_a_tebibyte ? 1ull << 40 : 1ull << 36;
    memory disk{bytes};
    const std::size_t before = anonymous_memory();
    const std::vector<std::byte> data(4096, std::byte{0x77});
    for (const std::uint64_t at :
         {std::uint64_t{0}, std::uint64_t{1} << 32, bytes / 2, bytes - 4096}) {
        write(disk, at, data);
        EXPECT_EQ(read(disk, at, 4096), data);
    }
    // The longest discard that there is, over data at both of its ends.
    constexpr std::uint64_t longest = (0xffffffffull >> 9) << 9;
    write(disk, longest - 4096, data);
    EXPECT_TRUE(disk.discard(asking(uapi::op::discard, 0, longest)).ok());
    EXPECT_EQ(read(disk, 0, 4096), std::vector<std::byte>(4096));
    EXPECT_EQ(read(disk, longest - 4096, 4096), std::vector<std::byte>(4096));
    EXPECT_EQ(read(disk, 1ull << 32, 4096), data);
    EXPECT_LT(anonymous_memory(), before + (16u << 20));
}

// Bytes of this process's page tables.
std::size_t page_tables() {
    std::ifstream status{"/proc/self/status"};
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("VmPTE:")) {
            return std::stoul(line.substr(6)) * 1024;
        }
    }
    ADD_FAILURE() << "no VmPTE";
    return 0;
}

/// Whether a read comes from the disk's memory, which begins at `begin`, and not from elsewhere.
bool stored(memory& disk, const std::byte* begin, std::uint64_t offset, std::uint64_t bytes = 512) {
    return disk.memory_for(asking(uapi::op::read, offset, bytes)).data() == begin + offset;
}

/// Where the disk's memory begins. Its first unit counts as written from then on.
const std::byte* begin_of(memory& disk) {
    return disk.memory_for(asking(uapi::op::write, 0, 512)).data();
}

TEST(memory, reads_holes_without_a_page_or_page_tables_for_them) {
    constexpr std::uint64_t bytes = room_for_a_tebibyte ? 1ull << 40 : 1ull << 36;
    std::mt19937_64 random{std::random_device{}()};
    memory disk{bytes};
    const ublk::fd client{::memfd_create("client", MFD_CLOEXEC)};
    const std::vector<std::byte> zeroes(4096);
    std::vector<std::byte> data(4096);
    const auto reads_zeroes = [&](const request& r) {
        std::fill(data.begin(), data.end(), std::byte{0xee});
        const std::span<std::byte> place = disk.memory_for(r);
        return disk.read(r, data).ok() && data == zeroes &&
               disk.read(r, ublk::user_copy{client.get(), 0, 4096}).ok() &&
               std::equal(place.begin(), place.end(), zeroes.begin(), zeroes.end());
    };
    ASSERT_TRUE(reads_zeroes(asking(uapi::op::read, 0, 4096)));
    const std::size_t tables = page_tables();
    const std::size_t before = anonymous_memory();
    for (int i = 0; i < 3000; ++i) {  // each of them would need 4 KiB of page tables
        const std::uint64_t at = random() % (bytes / 4096) * 4096;
        ASSERT_TRUE(reads_zeroes(asking(uapi::op::read, at, 4096))) << at;
    }
    EXPECT_LT(page_tables(), tables + (1u << 20));
    EXPECT_LT(anonymous_memory(), before + (1u << 20));
}

TEST(memory, knows_a_hole_again_once_whole_units_are_discarded) {
    for (const auto op : {uapi::op::discard, uapi::op::write_zeroes}) {
        memory disk{memory::tracked_above + 4 * unit + page};
        const std::byte* const begin = begin_of(disk);
        const auto forget = [&](std::uint64_t offset, std::uint64_t bytes) {
            const request r = asking(op, offset, bytes);
            EXPECT_TRUE((op == uapi::op::discard ? disk.discard(r) : disk.write_zeroes(r)).ok());
        };
        write(disk, 2 * unit - 512, std::vector<std::byte>(unit + 1024, std::byte{5}));
        EXPECT_TRUE(stored(disk, begin, unit) && stored(disk, begin, 2 * unit));
        EXPECT_TRUE(stored(disk, begin, 3 * unit) && !stored(disk, begin, 4 * unit));
        EXPECT_TRUE(stored(disk, begin, 4 * unit - page, 2 * page)) << "where a part of it is";

        forget(unit + 512, 3 * unit - 1024);  // leaves the ends of what was written in place
        EXPECT_TRUE(stored(disk, begin, unit) && !stored(disk, begin, 2 * unit));
        EXPECT_TRUE(stored(disk, begin, 3 * unit));
        forget(unit, 3 * unit);
        EXPECT_FALSE(stored(disk, begin, unit) || stored(disk, begin, 3 * unit));

        const std::uint64_t last = memory::tracked_above + 4 * unit;
        write_by_user_copy(disk, last, std::vector<std::byte>(page, std::byte{5}));
        EXPECT_TRUE(stored(disk, begin, last));
        forget(last, page);
        EXPECT_FALSE(stored(disk, begin, last)) << "a unit that is cut off by the disk's end";
    }
}

// The kernel may write there long after it asked for the place.
TEST(memory, takes_for_written_what_the_kernel_was_given_to_write_to) {
    memory disk{memory::tracked_above + unit};
    const std::byte* const begin = begin_of(disk);
    const std::span<std::byte> place = disk.memory_for(asking(uapi::op::write, 512, 512));
    EXPECT_TRUE(disk.discard(asking(uapi::op::discard, 0, unit)).ok());
    std::fill(place.begin(), place.end(), std::byte{7});
    EXPECT_EQ(read(disk, 512, 512), std::vector<std::byte>(512, std::byte{7}));
    write(disk, 1024, std::vector<std::byte>(512, std::byte{8}));
    EXPECT_EQ(read(disk, 512, 512), std::vector<std::byte>(512, std::byte{7}));
    EXPECT_TRUE(stored(disk, begin, 0));
}

TEST(memory, that_knows_its_holes_discards_locked_pages_too) {
    memory disk{memory::tracked_above + 4 * unit};
    const std::byte* const begin = begin_of(disk);
    // Not by mlock(3), which does nothing under a sanitizer.
    ASSERT_EQ(::syscall(SYS_mlock, begin + unit, page), 0) << "64 KiB may be locked by default";
    write(disk, unit, std::vector<std::byte>(unit, std::byte{7}));
    EXPECT_TRUE(disk.discard(asking(uapi::op::discard, unit, unit)).ok());
    EXPECT_TRUE(stored(disk, begin, unit)) << "its pages stay";
    EXPECT_EQ(read(disk, unit, unit), std::vector<std::byte>(unit));
}

TEST(memory, that_knows_its_holes_keeps_its_content_when_moved) {
    memory first{memory::tracked_above + unit};
    write(first, unit, std::vector<std::byte>(512, std::byte{9}));
    memory second{std::move(first)};
    memory third{512};
    third = std::move(second);
    EXPECT_EQ(read(third, unit, 512), std::vector<std::byte>(512, std::byte{9}));
    EXPECT_EQ(read(third, 0, 512), std::vector<std::byte>(512));
}

// Every thread has sectors of its own in the same units, and two have whole units beside these: it
// always reads there what it wrote last.
TEST(memory, keeps_sectors_apart_that_threads_write_and_discard_side_by_side) {
    constexpr std::uint64_t threads = 4;
    constexpr std::uint64_t rounds = 3000;
    memory disk{memory::tracked_above + 64 * unit};
    const auto serve = [&](std::uint64_t mine) {
        std::mt19937_64 random{mine};
        for (std::uint64_t i = 0; i < rounds; ++i) {
            // A part of a unit that others have parts of, at its begin or its end, or a whole one.
            const std::uint64_t edge = (1 + random() % 8) * 4 * unit;
            const bool whole = i % 8 == 0;
            const std::uint64_t at = whole        ? edge + (1 + mine % 2) * unit
                                     : i % 2 == 0 ? edge + (mine + 4) * 2 * page
                                                  : edge - (mine + 1) * 2 * page - 512;
            const std::uint64_t bytes = whole ? unit : page + 512;
            if (whole && mine > 1) {
                continue;
            }
            const std::vector<std::byte> data(bytes, static_cast<std::byte>(1 + mine + i % 16));
            write(disk, at, data);
            ASSERT_TRUE(read(disk, at, bytes) == data) << mine << ' ' << at << ' ' << i;
            ASSERT_TRUE(disk.discard(asking(uapi::op::discard, at, bytes)).ok());
            ASSERT_TRUE(read(disk, at, bytes) == std::vector<std::byte>(bytes)) << at;
        }
    };
    std::vector<std::jthread> running;
    for (std::uint64_t i = 0; i < threads; ++i) {
        running.emplace_back(serve, i);
    }
}

// Which of the two comes last is nobody's promise, but nothing may come to light later on.
TEST(memory, that_is_written_and_discarded_at_once_reads_the_same_ever_after) {
    constexpr int rounds = 4000;
    memory disk{memory::tracked_above + 4 * unit};
    std::barrier together{2};
    const std::vector<std::byte> some(16 * page, std::byte{7});
    std::jthread discarding{[&] {
        for (int i = 0; i < rounds; ++i) {
            together.arrive_and_wait();
            EXPECT_TRUE(disk.discard(asking(uapi::op::discard, unit, unit)).ok());
            together.arrive_and_wait();
        }
    }};
    for (int i = 0; i < rounds; ++i) {
        write(disk, unit, std::vector<std::byte>(512, std::byte{1}));
        together.arrive_and_wait();
        write(disk, unit + 8 * page, some);
        together.arrive_and_wait();
        const std::vector<std::byte> first = read(disk, unit + 8 * page, some.size());
        write(disk, 2 * unit - 512, std::vector<std::byte>(512, std::byte{2}));
        EXPECT_TRUE(read(disk, unit + 8 * page, some.size()) == first) << i;
        EXPECT_TRUE(disk.discard(asking(uapi::op::discard, unit, unit)).ok());
    }
}

TEST(memory, says_so_where_the_address_space_has_no_room) {
    try {
        const memory disk{1ull << 60};
        FAIL();
    } catch (const ublk::error& e) {
        EXPECT_EQ(e.errno_value(), ENOMEM);
        EXPECT_EQ(e.command(), "allocating the memory disk");
    }
}

TEST(memory, of_no_size_is_left_to_the_start_to_refuse) {
    const memory none{0};
    EXPECT_EQ(none.size(), 0u);
    EXPECT_THROW(ublk::validate(ublk::attributes_of(none), 4096), ublk::error);
}

}  // namespace
}  // namespace memory_test
