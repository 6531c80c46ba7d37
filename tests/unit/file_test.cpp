// SPDX-License-Identifier: MIT
#include <ublk/backends/file.hpp>

#include "../support/crank.hpp"
#include "../support/thread_state.hpp"

#include <ublk/backend.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/kernel/disk_write_back.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace file_test {
namespace {

using namespace std::chrono_literals;
using ublk::result;
using ublk::backends::file;
using ublk::backends::file_options;
using ublk::detail::opcode;
using ublk::detail::submission;
using ublk::test::make_request;
namespace detail = ublk::detail;
namespace fs = std::filesystem;
namespace uapi = ublk::uapi;
using op = uapi::op;

static_assert(ublk::backend<file> && ublk::check_backend<file>());
static_assert(ublk::accepts<file, std::span<std::byte>>);
static_assert(ublk::accepts<file, ublk::registered_buffer>);
static_assert(ublk::asynchronous<file, std::span<std::byte>>);
static_assert(std::is_nothrow_move_constructible_v<file>);

static_assert(detail::blk_read_only == BLKROGET && detail::blk_size == BLKGETSIZE64);
static_assert(detail::blk_logical_block_size == BLKSSZGET);
static_assert(detail::blk_physical_block_size == BLKPBSZGET);
static_assert(detail::blk_minimum_io == BLKIOMIN && detail::blk_optimal_io == BLKIOOPT);
static_assert(detail::blk_rotational == BLKROTATIONAL);
static_assert(detail::blk_flush_buffers == BLKFLSBUF);
#ifdef STATX_DIOALIGN
static_assert(detail::statx_direct_alignment == STATX_DIOALIGN);
#endif

const auto page = static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));

using bytes = std::vector<std::byte>;

/// Memory that O_DIRECT takes.
class pages {
public:
    explicit pages(std::size_t size, std::byte value = {}) : blocks_(size / 4096 + 1), size_{size} {
        std::ranges::fill(all(), value);
    }
    explicit pages(const bytes& content) : pages{content.size()} {
        std::ranges::copy(content, all().begin());
    }
    [[nodiscard]] std::span<std::byte> all() {
        return std::as_writable_bytes(std::span{blocks_}).first(size_);
    }
    [[nodiscard]] bytes content() { return {all().begin(), all().end()}; }

private:
    struct alignas(4096) block {
        std::byte some[4096];
    };
    std::vector<block> blocks_;
    std::size_t size_;
};

/// A directory that goes with all that is in it.
class directory {
public:
    explicit directory(const fs::path& where) : path_{(where / "ublk-file-XXXXXX").string()} {
        EXPECT_NE(::mkdtemp(path_.data()), nullptr) << path_;
    }
    directory(const directory&) = delete;
    directory& operator=(const directory&) = delete;
    ~directory() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }

    [[nodiscard]] std::string operator/(const std::string& name) const {
        return path_ + '/' + name;
    }
    [[nodiscard]] const std::string& path() const { return path_; }

    /// A file of so many bytes, all of them a hole.
    [[nodiscard]] std::string make(const std::string& name, std::uint64_t size) const {
        std::ofstream{*this / name};
        fs::resize_file(*this / name, size);
        return *this / name;
    }

private:
    std::string path_;
};

bytes patterned(std::size_t size, std::uint32_t seed) {
    std::mt19937 random{seed};
    bytes made(size);
    std::ranges::generate(made, [&] { return static_cast<std::byte>(random()); });
    return made;
}

bytes content_of(const std::string& path) {
    std::ifstream in{path, std::ios::binary};
    const std::string text{std::istreambuf_iterator<char>{in}, {}};
    const auto all = std::as_bytes(std::span{text});
    return {all.begin(), all.end()};
}

std::uint64_t allocated(const std::string& path) {
    struct ::stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

/// Where the bytes of requests are: in a span, or registered, at a base address of 0 or another.
enum class payload { span, registered, registered_elsewhere };
constexpr std::array payloads{payload::span, payload::registered, payload::registered_elsewhere};

/// A disk, and whoever turns its crank.
struct served {
    file disk;
    ublk::test::crank turn{file::task_bytes};
    payload in = payload::span;

    /// Through the ring, where a test can stand in for the kernel.
    explicit served(const std::string& path, file_options requested = {})
        : disk{path, (requested.at_once = false, requested)} {}
    explicit served(file&& other) : disk{std::move(other)} {}

    /// Without the ring where that is possible.
    static served itself(const std::string& path, const file_options& requested) {
        return served{file{path, requested}};
    }

    [[nodiscard]] result data(op what, std::uint64_t offset, std::span<std::byte> memory,
                              std::uint32_t flags = 0) {
        const ublk::request requested = make_request(what, offset, memory.size(), flags);
        if (in == payload::span) {
            return turn.serve(disk, requested, memory);
        }
        return turn.serve_registered(disk, requested, memory,
                                     in == payload::registered ? 0 : 0x7000'0000'1000);
    }
    [[nodiscard]] result write(std::uint64_t offset, const bytes& what, std::uint32_t flags = 0) {
        pages memory{what};
        return data(op::write, offset, memory.all(), flags);
    }
    [[nodiscard]] bytes read(std::uint64_t offset, std::size_t size) {
        pages memory{size, std::byte{0xee}};
        EXPECT_EQ(data(op::read, offset, memory.all()), ublk::ok);
        return memory.content();
    }
    [[nodiscard]] result read_result(std::uint64_t offset, std::size_t size) {
        pages memory{size, std::byte{0xee}};
        return data(op::read, offset, memory.all());
    }
    [[nodiscard]] result space(op what, std::uint64_t offset, std::uint64_t size,
                               std::uint32_t flags = 0) {
        return turn.serve(disk, make_request(what, offset, size, flags), std::span<std::byte>{});
    }
    [[nodiscard]] result flush() { return space(op::flush, 0, 0); }

    /// What was submitted since the last look.
    std::vector<submission> submitted() { return std::exchange(turn.seen, {}); }
    [[nodiscard]] std::vector<opcode> codes() {
        std::vector<opcode> all;
        for (const submission& each : submitted()) {
            all.push_back(each.code);
        }
        return all;
    }
};

const std::function<int(const submission&)> real = [](const submission& requested) {
    return ublk::sim::perform(requested);
};

/// Answers the first `times` operations of a kind with an errno, the others as they are.
std::function<int(const submission&)> failing(opcode code, int error, int times = 1 << 30) {
    return [=](const submission& requested) mutable {
        return requested.code == code && times-- > 0 ? -error : real(requested);
    };
}

ublk::error refusal(const std::string& path, const file_options& requested = {}) {
    const auto open_files = [] {
        return std::distance(fs::directory_iterator{"/proc/self/fd"}, fs::directory_iterator{});
    };
    const auto before = open_files();
    try {
        const file disk{path, requested};
    } catch (const ublk::error& failed) {
        EXPECT_EQ(open_files(), before) << "something is left open";
        EXPECT_NE(std::string{failed.command()}.find(path), std::string::npos) << failed.what();
        EXPECT_FALSE(failed.cause().empty()) << failed.what();
        EXPECT_FALSE(failed.remedy().empty()) << failed.what();
        return failed;
    }
    ADD_FAILURE() << path << " was not refused";
    return ublk::error{0, "", std::nullopt, "", ""};
}

/// tmpfs, and whatever the temporary files of this machine are on; with and without O_DIRECT.
struct place {
    const char* name;
    fs::path where;
    bool direct;
};

std::vector<place> places() {
    const fs::path elsewhere = fs::temp_directory_path();
    return {{"tmpfs", "/dev/shm", false},
            {"tmpfs_direct", "/dev/shm", true},
            {"temporary", elsewhere, false},
            {"temporary_direct", elsewhere, true}};
}

class file_on : public testing::TestWithParam<place> {
protected:
    void SetUp() override {
        if (!fs::is_directory(GetParam().where)) {
            GTEST_SKIP() << GetParam().where << " is not there";
        }
        here.emplace(GetParam().where);
        const std::string trial = here->make("trial", 4096);
        if (GetParam().direct) {
            const ublk::fd opened{::open(trial.c_str(), O_RDWR | O_DIRECT)};
            if (!opened) {
                GTEST_SKIP() << "no O_DIRECT on " << GetParam().where;
            }
        }
        options.direct = GetParam().direct;
        options.lock_wait = 0ms;
    }

    std::optional<directory> here;
    file_options options;
};

INSTANTIATE_TEST_SUITE_P(each_place, file_on, testing::ValuesIn(places()),
                         [](const auto& tested) { return std::string{tested.param.name}; });

/// For what does not depend on the filesystem.
class file_test : public testing::Test {
protected:
    directory here{fs::temp_directory_path()};
    file_options impatient{.lock_wait = 0ms};
};

// --- What a disk says of itself ------------------------------------------------------------------

TEST_P(file_on, is_described_so_that_the_driver_takes_it) {
    const file disk{here->make("disk", 1u << 20), options};
    const ublk::disk_attributes outcome = ublk::attributes_of(disk);
    EXPECT_NO_THROW(ublk::validate(outcome, page));
    EXPECT_EQ(outcome.size, 1u << 20);
    EXPECT_EQ(outcome.physical_block_size, page);
    EXPECT_FALSE(outcome.read_only);
    EXPECT_TRUE(outcome.volatile_cache);
    EXPECT_TRUE(outcome.fua);
    EXPECT_TRUE(outcome.discards);
    EXPECT_NE(outcome.max_write_zeroes_size, 0u);
    if (!options.direct) {
        EXPECT_EQ(outcome.logical_block_size, 512u);
        EXPECT_EQ(outcome.dma_alignment, 0u);
    } else {
        EXPECT_GE(outcome.dma_alignment, 4u);
    }
}

TEST_P(file_on, has_the_block_size_that_is_asked_for) {
    options.logical_block_size = 4096;
    const file disk{here->make("disk", 4096 + 1), options};
    EXPECT_EQ(disk.logical_block_size(), 4096u);
    EXPECT_EQ(disk.size(), 2 * 4096u);
    EXPECT_NO_THROW(ublk::validate(ublk::attributes_of(disk), page));
}

TEST_P(file_on, read_only_needs_no_permission_to_write_and_offers_nothing_that_writes) {
    const std::string path = here->make("disk", 1u << 20);
    ASSERT_EQ(::chmod(path.c_str(), 0444), 0);
    options.read_only = true;
    served made{path, options};
    const ublk::disk_attributes outcome = ublk::attributes_of(made.disk);
    EXPECT_NO_THROW(ublk::validate(outcome, page));
    EXPECT_TRUE(outcome.read_only);
    EXPECT_FALSE(outcome.discards);
    EXPECT_EQ(outcome.max_write_zeroes_size, 0u);
    EXPECT_EQ(made.read(0, 4096), bytes(4096));
    EXPECT_EQ(made.flush(), ublk::ok);
    EXPECT_FALSE(made.write(0, bytes(4096)).ok());  // never asked for; and nothing happens
}

TEST_F(file_test, where_no_holes_can_be_made_discards_are_not_offered) {
    const ublk::fd sealed{::memfd_create("sealed", MFD_ALLOW_SEALING)};
    ASSERT_TRUE(sealed && ::ftruncate(sealed.get(), 1 << 20) == 0);
    if (::fcntl(sealed.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE) != 0) {
        GTEST_SKIP() << "no F_SEAL_FUTURE_WRITE";
    }
    const file disk{"/proc/self/fd/" + std::to_string(sealed.get()), impatient};
    EXPECT_EQ(disk.max_discard_size(), 0u);
    EXPECT_EQ(disk.max_write_zeroes_size(), 64u << 20);  // they are written
    EXPECT_NO_THROW(ublk::validate(ublk::attributes_of(disk), page));
}

TEST_P(file_on, opening_leaves_the_file_as_it_was) {
    const std::string path = here->make("disk", 1u << 20);
    { const file disk{path, options}; }
    EXPECT_EQ(fs::file_size(path), 1u << 20);
    EXPECT_EQ(allocated(path), 0u);
}

TEST(file_limits, sizes_that_are_no_power_of_two_become_one_that_divides_them) {
    EXPECT_EQ(detail::hint(std::nullopt, 512, 4096), 512u);
    EXPECT_EQ(detail::hint(0, 512, 4096), 512u);
    EXPECT_EQ(detail::hint(3 * 65536, 512, 1u << 28), 65536u);
    EXPECT_EQ(detail::hint(1u << 20, 512, 4096), 4096u);
    EXPECT_EQ(detail::hint(7, 512, 4096), 512u);
    EXPECT_EQ(detail::hint(std::uint64_t{1} << 40, 512, 1u << 28), 1u << 28);
}

TEST_F(file_test, a_partition_has_the_queue_of_its_disk) {
    fs::create_directories(here / "disk/queue");
    fs::create_directories(here / "disk/part");
    std::ofstream{here / "disk/queue/rotational"} << "1\n";
    std::ofstream{here / "disk/queue/empty"};
    std::ofstream{here / "disk/queue/words"} << "none\n";
    EXPECT_EQ(detail::queue_number(here / "disk", "rotational"), 1u);
    EXPECT_EQ(detail::queue_number(here / "disk/part", "rotational"), 1u);
    EXPECT_EQ(detail::queue_number(here / "disk", "absent"), std::nullopt);
    EXPECT_EQ(detail::queue_number(here / "disk", "empty"), std::nullopt);
    EXPECT_EQ(detail::queue_number(here / "disk", "words"), std::nullopt);
    EXPECT_EQ(detail::queue_number(here / "nowhere", "rotational"), std::nullopt);
}

TEST_F(file_test, direct_io_is_tried_where_the_kernel_does_not_say_what_it_demands) {
    const std::string path = here.make("disk", 1u << 20);
    const ublk::fd opened{::open(path.c_str(), O_RDWR | O_DIRECT)};
    if (!opened) {
        GTEST_SKIP() << "no O_DIRECT here";
    }
    const detail::direct_demands tried = detail::try_direct_demands(opened.get(), here / "none");
    EXPECT_GE(tried.offset, 512u);
    EXPECT_LE(tried.offset, page);
    std::ofstream{here / "queue"};  // no directory: nothing is known of the device
    fs::create_directories(here / "device/queue");
    std::ofstream{here / "device/queue/logical_block_size"} << page;
    EXPECT_EQ(detail::try_direct_demands(opened.get(), here / "device").offset, page);
}

// --- What is refused -----------------------------------------------------------------------------

TEST_F(file_test, refuses_what_is_not_there) {
    const ublk::error failed = refusal(here / "nothing");
    EXPECT_EQ(failed.errno_value(), ENOENT);
    EXPECT_NE(std::string{failed.remedy()}.find("truncate -s"), std::string::npos);
    EXPECT_EQ(refusal((here / "nothing") + "/more").errno_value(), ENOENT);
}

TEST_F(file_test, refuses_what_is_no_file_or_block_device) {
    EXPECT_EQ(refusal(here.path()).errno_value(), EISDIR);
    EXPECT_EQ(refusal(here.path(), {.read_only = true}).errno_value(), EISDIR);
    EXPECT_EQ(refusal("/dev/null").errno_value(), EINVAL);
    const std::string pipe = here / "pipe";
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    EXPECT_EQ(refusal(pipe, {.read_only = true}).errno_value(), EINVAL);  // and does not wait
}

TEST_F(file_test, refuses_an_empty_file) {
    EXPECT_EQ(refusal(here.make("empty", 0), impatient).errno_value(), EINVAL);
}

TEST_F(file_test, refuses_what_the_user_may_not_open) {
    const std::string path = here.make("disk", 4096);
    ASSERT_EQ(::chmod(here.path().c_str(), 0755), 0);
    ASSERT_EQ(::chmod(path.c_str(), 0444), 0);
    const bool root = ::geteuid() == 0;
    if (root && ::seteuid(65534) != 0) {
        GTEST_SKIP() << "root cannot become anybody else here";
    }
    const ublk::error failed = refusal(path, impatient);
    EXPECT_EQ(failed.errno_value(), EACCES);
    EXPECT_NE(std::string{failed.remedy()}.find("read-only"), std::string::npos);
    EXPECT_NO_THROW((file{path, {.read_only = true}}));
    if (root) {
        ASSERT_EQ(::seteuid(0), 0);
    }
}

TEST_F(file_test, refuses_direct_io_where_there_is_none) {
    const ublk::error failed = refusal("/proc/version", {.direct = true, .read_only = true});
    EXPECT_EQ(failed.errno_value(), EINVAL);
    EXPECT_NE(std::string{failed.cause()}.find("direct"), std::string::npos);
}

TEST_F(file_test, refuses_block_sizes_that_cannot_be) {
    const std::string path = here.make("disk", 1u << 20);
    for (const std::uint32_t wrong : {1u, 256u, 513u, 1536u, 2 * page, 1u << 31}) {
        file_options requested = impatient;
        requested.logical_block_size = wrong;
        EXPECT_EQ(refusal(path, requested).errno_value(), EINVAL) << wrong;
    }
    EXPECT_EQ(detail::choose_block_size("x", 4096, 0), 4096u);
    EXPECT_THROW((void)detail::choose_block_size("x", 4096, 512), ublk::error);
    EXPECT_THROW((void)detail::choose_block_size("x", 2 * page, 0), ublk::error);
}

TEST_P(file_on, one_server_at_a_time_unless_all_only_read) {
    const std::string path = here->make("disk", 1u << 20);
    file_options reading = options;
    reading.read_only = true;
    {
        const file first{path, options};
        const ublk::error failed = refusal(path, options);
        EXPECT_EQ(failed.errno_value(), EWOULDBLOCK);
        EXPECT_EQ(refusal(path, reading).errno_value(), EWOULDBLOCK);
    }
    const file second{path, reading};
    EXPECT_NO_THROW((file{path, reading}));
    EXPECT_EQ(refusal(path, options).errno_value(), EWOULDBLOCK);
}

TEST_P(file_on, is_not_locked_where_its_users_agree_by_other_means) {
    const std::string path = here->make("disk", 1u << 20);
    file_options unlocked = options;
    unlocked.lock = false;
    const file first{path, options};
    EXPECT_NO_THROW((file{path, unlocked}));
    EXPECT_EQ(refusal(path, options).errno_value(), EWOULDBLOCK) << "the first is locked still";
}

TEST_F(file_test, waits_a_while_for_a_server_that_is_just_ending) {
    const std::string path = here.make("disk", 1u << 20);
    std::optional<file> dying{std::in_place, path};
    std::thread end{[&, waiting = ::gettid()] {
        EXPECT_TRUE(ublk::test::falls_asleep(waiting));
        dying.reset();
    }};
    EXPECT_NO_THROW((file{path, {.lock_wait = 60s}}));
    end.join();
}

TEST_F(file_test, takes_its_lock_along_when_moved) {
    const std::string path = here.make("disk", 1u << 20);
    file first{path, impatient};
    const file second{std::move(first)};
    EXPECT_EQ(refusal(path, impatient).errno_value(), EWOULDBLOCK);
    EXPECT_EQ(second.size(), 1u << 20);
}

// --- Bytes ---------------------------------------------------------------------------------------

TEST_P(file_on, gives_back_what_was_written_with_any_payload) {
    const std::string path = here->make("disk", 1u << 20);
    served made{path, options};
    for (const payload in : payloads) {
        made.in = in;
        const bytes data = patterned(3 * 4096, static_cast<std::uint32_t>(in) + 1);
        EXPECT_EQ(made.write(4096, data), ublk::ok);
        EXPECT_EQ(made.read(4096, data.size()), data);
        EXPECT_EQ(made.read(0, 4096), bytes(4096));
        EXPECT_EQ(made.read(4 * 4096, 4096), bytes(4096));
        const bool span = in == payload::span;
        made.submitted();
        EXPECT_EQ(made.write((1u << 20) - 4096, bytes(4096, std::byte{3})), ublk::ok);
        EXPECT_EQ(made.read((1u << 20) - 4096, 4096), bytes(4096, std::byte{3}));
        EXPECT_EQ(made.codes(), (std::vector{span ? opcode::write : opcode::write_fixed,
                                             span ? opcode::read : opcode::read_fixed}));
    }
    EXPECT_EQ(fs::file_size(path), 1u << 20);
    EXPECT_TRUE(content_of(path) == made.read(0, 1u << 20)) << "it is not in the file";
}

TEST_P(file_on, reaches_beyond_four_gibibytes) {
    const std::uint64_t size = std::uint64_t{5} << 40;
    served made{here->make("disk", size), options};
    EXPECT_EQ(made.disk.size(), size);
    const bytes data = patterned(4096, 9);
    for (const std::uint64_t at : {std::uint64_t{1} << 32, size - 4096}) {
        EXPECT_EQ(made.write(at, data), ublk::ok);
        EXPECT_EQ(made.read(at, 4096), data);
        EXPECT_EQ(made.read(at & 0xffff'ffff, 4096), bytes(4096)) << "wrapped";
    }
}

TEST_P(file_on, requests_of_no_length_are_done) {
    served made{here->make("disk", 1u << 20), options};
    for (const payload in : payloads) {
        made.in = in;
        EXPECT_EQ(made.write(0, {}), ublk::ok);
        EXPECT_EQ(made.read(0, 0), bytes{});
    }
}

// --- The end of the file -------------------------------------------------------------------------

TEST_P(file_on, whose_size_is_off_a_block_hides_nothing) {
    const std::string path = here->make("disk", 3 * 4096 + 1000);
    std::fstream{path, std::ios::in | std::ios::out} << std::string(3 * 4096 + 1000, 'x');
    served made{path, options};
    const std::uint64_t block = made.disk.logical_block_size();
    const std::uint64_t end = ublk::round_up(3 * 4096 + 1000, block);
    EXPECT_EQ(made.disk.size(), end);
    bytes expected(end - 3 * 4096, std::byte{'x'});
    std::fill(expected.begin() + 1000, expected.end(), std::byte{0});
    for (const payload in : payloads) {
        made.in = in;
        EXPECT_EQ(made.read(3 * 4096, expected.size()), expected);
    }
    EXPECT_EQ(fs::file_size(path), 3u * 4096 + 1000);  // reading changes nothing
    const bytes data = patterned(block, 5);
    EXPECT_EQ(made.write(end - block, data), ublk::ok);
    EXPECT_EQ(made.read(end - block, block), data);
    EXPECT_EQ(fs::file_size(path), end);
}

TEST_P(file_on, that_was_cut_short_reads_zeroes_and_grows_again) {
    const std::string path = here->make("disk", 1u << 20);
    served made{path, options};
    const bytes data = patterned(64 << 10, 6);
    for (const payload in : payloads) {
        made.in = in;
        for (const std::uint64_t left : {0u, 512u, 4096u, 10000u, 65535u, 65536u}) {
            EXPECT_EQ(made.write(0, data), ublk::ok);
            fs::resize_file(path, left);
            bytes expected = data;
            std::fill(expected.begin() + static_cast<std::ptrdiff_t>(left), expected.end(),
                      std::byte{0});
            EXPECT_EQ(made.read(0, data.size()), expected) << left;
            EXPECT_EQ(made.read(512 << 10, 4096), bytes(4096));
        }
        fs::resize_file(path, 0);
        EXPECT_EQ(made.write(512 << 10, data), ublk::ok);
        EXPECT_EQ(fs::file_size(path), (512u << 10) + data.size());
        EXPECT_EQ(made.read(512 << 10, data.size()), data);
        EXPECT_EQ(made.read(0, data.size()), bytes(data.size()));
    }
}

TEST_F(file_test, the_end_of_a_registered_buffer_is_cleared_by_reading_zeroes_into_it) {
    const std::string path = here.make("disk", 1u << 20);
    served made{path, impatient};
    fs::resize_file(path, 1000);
    for (const payload in : {payload::registered, payload::registered_elsewhere}) {
        made.in = in;
        made.submitted();
        EXPECT_EQ(made.read(0, 4096), bytes(4096));
        const std::vector<submission> seen = made.submitted();
        ASSERT_EQ(seen.size(), 3u);  // the bytes, the end, the zeroes
        const std::uint64_t base = in == payload::registered ? 0 : 0x7000'0000'1000;
        EXPECT_EQ(seen[2].code, opcode::read_fixed);
        EXPECT_NE(seen[2].file, seen[0].file);
        EXPECT_EQ(seen[2].address, base + 1000);
        EXPECT_EQ(seen[2].length, 3096u);
        EXPECT_EQ(seen[2].offset, 0u);
    }
    made.turn.kernel = [path](const submission& requested) {  // zeroes that come in small portions
        submission less = requested;
        less.length = std::min(less.length, 100u);
        return real(less);
    };
    EXPECT_EQ(made.read(0, 4096), bytes(4096));
    int calls = 0;
    made.turn.kernel = [&](const submission& requested) {
        return ++calls == 3 ? -EIO : real(requested);
    };
    EXPECT_EQ(made.read_result(0, 4096).error(), EIO);
    calls = 0;
    made.turn.kernel = [&](const submission& requested) {
        return ++calls == 3 ? 0 : real(requested);
    };
    EXPECT_EQ(made.read_result(0, 4096).error(), EIO);  // there is no end of /dev/zero
}

// A direct read that stops off a block, though the file goes on.
TEST_P(file_on, takes_nothing_for_the_end_that_is_not) {
    served made{here->make("disk", 1u << 20), options};
    const bytes data = patterned(16384, 7);
    ASSERT_EQ(made.write(0, data), ublk::ok);
    for (const payload in : payloads) {
        made.in = in;
        int odd = 3;
        made.turn.kernel = [&](const submission& requested) {
            const int outcome = real(requested);
            return odd-- > 0 && outcome > 5000 ? 5000 : outcome;
        };
        EXPECT_EQ(made.read(0, data.size()), data);
    }
    if (options.direct) {
        made.turn.kernel = [&](const submission&) { return 100; };
        EXPECT_EQ(made.read_result(0, 16384).error(), EIO);  // and it ends
        int calls = 0;
        made.turn.kernel = [&](const submission&) { return ++calls == 1 ? 5000 : -ENOMEM; };
        EXPECT_EQ(made.read_result(0, 16384).error(), ENOMEM);
    }
}

// --- What the kernel may answer ------------------------------------------------------------------

TEST_P(file_on, goes_on_after_short_transfers_at_every_point) {
    served made{here->make("disk", 1u << 20), options};
    const std::uint32_t unit = options.direct ? made.disk.logical_block_size() : 1;
    const std::size_t size = options.direct ? 8 * std::size_t{unit} : 4096;
    std::uint32_t seed = 0;
    for (const payload in : payloads) {
        made.in = in;
        for (std::uint32_t most = unit; most < size; most += options.direct ? unit : 97) {
            for (const bool once : {false, true}) {
                bool shortened = false;
                made.turn.kernel = [&](const submission& requested) {
                    submission less = requested;
                    less.length =
                        once && shortened ? requested.length : std::min(requested.length, most);
                    shortened = true;
                    return real(less);
                };
                const bytes data = patterned(size, ++seed);
                ASSERT_EQ(made.write(4096, data), ublk::ok) << most;
                shortened = false;
                ASSERT_EQ(made.read(4096, size), data) << most;
            }
        }
    }
}

TEST_P(file_on, signals_and_full_queues_are_no_errors) {
    served made{here->make("disk", 1u << 20), options};
    const bytes data = patterned(4096, 11);
    for (const payload in : payloads) {
        made.in = in;
        for (const int refusal : {EINTR, EAGAIN}) {
            int calls = 0;
            made.turn.kernel = [&](const submission& requested) {
                return ++calls % 3 == 0 ? real(requested) : -refusal;
            };
            EXPECT_EQ(made.write(0, data), ublk::ok);
            EXPECT_EQ(made.write(4096, data, uapi::io_flag::fua), ublk::ok);
            EXPECT_EQ(made.read(0, 4096), data);
        }
    }
    int calls = 0;
    made.turn.kernel = [&](const submission& requested) {
        return ++calls % 3 == 0 ? real(requested) : -EINTR;
    };
    EXPECT_EQ(made.flush(), ublk::ok);
    EXPECT_EQ(made.space(op::discard, 0, 4096), ublk::ok);
    EXPECT_EQ(made.space(op::write_zeroes, 4096, 4096), ublk::ok);
    EXPECT_EQ(made.space(op::write_zeroes, 4096, 4096, uapi::io_flag::nounmap), ublk::ok);
    EXPECT_EQ(made.read(0, 8192), bytes(8192));
}

// Some filesystems have another word for what they cannot do, or cannot do with this range.
TEST_F(file_test, zeroes_and_discards_do_without_fallocate) {
    for (const int error : {EOPNOTSUPP, EINVAL, ENOSYS, ENODEV}) {
        served made{here.make("disk" + std::to_string(error), 1u << 20), impatient};
        made.turn.kernel = failing(opcode::fallocate, error);
        EXPECT_EQ(made.write(0, bytes(8192, std::byte{5})), ublk::ok);
        EXPECT_EQ(made.space(op::discard, 0, 4096), ublk::ok) << error;
        EXPECT_EQ(made.space(op::write_zeroes, 0, 4096), ublk::ok) << error;
        EXPECT_EQ(made.space(op::write_zeroes, 4096, 4096, uapi::io_flag::nounmap), ublk::ok);
        EXPECT_EQ(made.read(0, 8192), bytes(8192));
    }
}

TEST_F(file_test, errors_of_the_file_reach_the_client_as_they_are) {
    served made{here.make("disk", 1u << 20), impatient};
    for (const payload in : payloads) {
        made.in = in;
        const bool span = in == payload::span;
        for (const int error : {ENOSPC, EIO, EDQUOT, ENOMEM, EOPNOTSUPP}) {
            made.turn.kernel = failing(span ? opcode::write : opcode::write_fixed, error);
            EXPECT_EQ(made.write(0, bytes(4096)).error(), error);
            made.turn.kernel = failing(span ? opcode::read : opcode::read_fixed, error);
            EXPECT_EQ(made.read_result(0, 4096).error(), error);
            made.turn.kernel = failing(opcode::fallocate, error);
            EXPECT_EQ(made.space(op::discard, 0, 4096).error(), error == EOPNOTSUPP ? 0 : error);
        }
        // Half of it is written, then the medium is full: nothing counts.
        int calls = 0;
        made.turn.kernel = [&](const submission&) { return ++calls == 1 ? 2048 : -ENOSPC; };
        EXPECT_EQ(made.write(0, bytes(4096)).error(), ENOSPC);
        calls = 0;
        made.turn.kernel = [&](const submission&) { return ++calls == 1 ? 2048 : -EIO; };
        EXPECT_EQ(made.read_result(0, 4096).error(), EIO);
        // A write that stops without a reason is none.
        made.turn.kernel = [&](const submission&) { return 0; };
        EXPECT_EQ(made.write(0, bytes(4096)).error(), EIO);
        EXPECT_EQ(made.write(0, bytes(4096), uapi::io_flag::fua).error(), EIO);
    }
    made.turn.kernel = real;
    EXPECT_EQ(made.flush(), ublk::ok);  // errors that a client was told of are no loss
}

TEST_F(file_test, ends_at_once_when_the_device_is_stopped_by_force) {
    served made{here.make("disk", 1u << 20), impatient};
    made.turn.with().home().cancel();
    EXPECT_EQ(made.write(0, bytes(4096)).error(), ECANCELED);
    EXPECT_EQ(made.write(0, bytes(4096), uapi::io_flag::fua).error(), ECANCELED);
    EXPECT_EQ(made.read_result(0, 4096).error(), ECANCELED);
    EXPECT_EQ(made.flush().error(), ECANCELED);
    EXPECT_EQ(made.space(op::discard, 0, 4096).error(), ECANCELED);
    EXPECT_EQ(made.space(op::write_zeroes, 0, 4096).error(), ECANCELED);
    EXPECT_TRUE(made.turn.seen.empty());
    // Nothing was lost by that: the next server of the same object flushes.
    ublk::test::crank next{file::task_bytes};
    EXPECT_EQ(next.serve(made.disk, make_request(op::flush, 0, 0), std::span<std::byte>{}),
              ublk::ok);
}

// --- Durability ----------------------------------------------------------------------------------

TEST_P(file_on, flush_is_fdatasync_and_fua_is_dsync) {
    served made{here->make("disk", 1u << 20), options};
    for (const payload in : payloads) {
        made.in = in;
        made.submitted();
        EXPECT_EQ(made.write(0, bytes(4096)), ublk::ok);
        EXPECT_EQ(made.write(4096, bytes(4096), uapi::io_flag::fua), ublk::ok);
        EXPECT_EQ(made.flush(), ublk::ok);
        const std::vector<submission> seen = made.submitted();
        ASSERT_EQ(seen.size(), 3u);
        EXPECT_EQ(seen[0].op_flags, 0u);
        EXPECT_EQ(seen[1].op_flags, static_cast<std::uint32_t>(RWF_DSYNC));
        EXPECT_EQ(seen[2].code, opcode::fsync);
        EXPECT_EQ(seen[2].op_flags, 1u);  // IORING_FSYNC_DATASYNC
        EXPECT_EQ(seen[2].file, seen[0].file);
    }
    // What is left of a write with FUA has the flag, too.
    const std::uint32_t first = made.disk.logical_block_size();
    bool shortened = false;
    made.turn.kernel = [&](const submission& requested) {
        submission less = requested;
        less.length = std::exchange(shortened, true) ? requested.length : first;
        return real(less);
    };
    made.submitted();
    EXPECT_EQ(made.write(0, bytes(4 * first), uapi::io_flag::fua), ublk::ok);
    const std::vector<submission> seen = made.submitted();
    ASSERT_EQ(seen.size(), 2u);
    EXPECT_EQ(seen[1].op_flags, static_cast<std::uint32_t>(RWF_DSYNC));
}

// The kernel says it once. Whoever asks afterwards must not hear that all is well.
TEST_F(file_test, after_a_loss_nothing_is_durable_until_the_disk_is_made_anew) {
    const std::string path = here.make("disk", 1u << 20);
    for (const int error : {EIO, ENOSPC, EDQUOT}) {
        for (const bool by_flush : {true, false}) {
            served made{path, impatient};
            made.turn.kernel = failing(by_flush ? opcode::fsync : opcode::write, error, 1);
            const result first =
                by_flush ? made.flush() : made.write(0, bytes(4096), uapi::io_flag::fua);
            EXPECT_EQ(first.error(), error);
            made.submitted();
            for (const payload in : payloads) {
                made.in = in;
                EXPECT_EQ(made.flush().error(), EIO);
                EXPECT_EQ(made.write(0, bytes(4096), uapi::io_flag::fua).error(), EIO);
            }
            EXPECT_TRUE(made.submitted().empty());
            EXPECT_EQ(made.write(0, bytes(4096, std::byte{5})), ublk::ok);
            EXPECT_EQ(made.read(0, 4096), bytes(4096, std::byte{5}));
            served again{std::move(made.disk)};
            EXPECT_EQ(again.flush().error(), EIO) << "forgotten when it was moved";
        }
    }
}

// A flush that the kernel answers well while another thread hears of a loss.
TEST_F(file_test, a_loss_that_becomes_known_meanwhile_counts_for_those_under_way) {
    served made{here.make("disk", 1u << 20), impatient};
    made.turn.kernel = [&](const submission&) {
        ublk::test::crank other{file::task_bytes};
        other.kernel = [](const submission&) { return -EIO; };
        EXPECT_EQ(
            other.serve(made.disk, make_request(op::flush, 0, 0), std::span<std::byte>{}).error(),
            EIO);
        return 0;
    };
    EXPECT_EQ(made.flush().error(), EIO);
}

// --- Space ---------------------------------------------------------------------------------------

TEST_P(file_on, discard_makes_a_hole) {
    const std::string path = here->make("disk", 4u << 20);
    served made{path, options};
    ASSERT_EQ(made.write(0, bytes(4u << 20, std::byte{1})), ublk::ok);
    ASSERT_EQ(made.flush(), ublk::ok);
    EXPECT_GE(allocated(path), 4u << 20);
    made.submitted();
    EXPECT_EQ(made.space(op::discard, 1u << 20, 2u << 20), ublk::ok);
    const std::vector<submission> seen = made.submitted();
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen[0].code, opcode::fallocate);
    EXPECT_EQ(seen[0].length, unsigned{FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE});
    EXPECT_EQ(seen[0].offset, 1u << 20);
    EXPECT_EQ(seen[0].address, 2u << 20);
    EXPECT_LE(allocated(path), (2u << 20) + 65536);
    EXPECT_EQ(fs::file_size(path), 4u << 20);
    bytes expected(4u << 20, std::byte{1});
    std::fill_n(expected.begin() + (1 << 20), 2 << 20, std::byte{0});
    EXPECT_TRUE(made.read(0, 4u << 20) == expected);
}

TEST_P(file_on, zeroes_make_a_hole_unless_they_must_not) {
    const std::string path = here->make("disk", 4u << 20);
    served made{path, options};
    const bytes ones(1u << 20, std::byte{1});
    for (const std::uint32_t flags : {0u, uapi::io_flag::nounmap}) {
        for (const std::uint64_t at : {0u, 1u << 20, 2u << 20}) {
            ASSERT_EQ(made.write(at, ones), ublk::ok);
        }
        ASSERT_EQ(made.flush(), ublk::ok);
        EXPECT_EQ(made.space(op::write_zeroes, 1u << 20, 1u << 20, flags), ublk::ok);
        EXPECT_TRUE(made.read(0, 1u << 20) == ones);
        EXPECT_TRUE(made.read(1u << 20, 1u << 20) == bytes(1u << 20));
        EXPECT_TRUE(made.read(2u << 20, 1u << 20) == ones);
        ASSERT_EQ(made.flush(), ublk::ok);
        if (flags == 0) {
            EXPECT_LT(allocated(path), (2u << 20) + 65536);
        } else {
            EXPECT_GE(allocated(path), 3u << 20);
        }
    }
    EXPECT_EQ(fs::file_size(path), 4u << 20);
}

std::uint32_t mode_of(const submission& requested) {
    return requested.code == opcode::fallocate ? requested.length : 0;
}

constexpr std::uint32_t punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr std::uint32_t zero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

TEST_F(file_test, what_the_filesystem_cannot_zero_is_written_and_asked_for_once) {
    served made{here.make("disk", 4u << 20), impatient};
    made.turn.kernel = failing(opcode::fallocate, EOPNOTSUPP);
    ASSERT_EQ(made.write(0, bytes(4u << 20, std::byte{1})), ublk::ok);
    made.submitted();
    const std::uint64_t size = (2u << 20) + 4096;
    EXPECT_EQ(made.space(op::write_zeroes, 512, size), ublk::ok);
    const std::vector<submission> seen = made.submitted();
    ASSERT_EQ(seen.size(), 5u);
    EXPECT_EQ(mode_of(seen[0]), punch);
    EXPECT_EQ(mode_of(seen[1]), zero);
    std::uint64_t at = 512;
    for (std::size_t i = 2; i < 5; ++i) {
        EXPECT_EQ(seen[i].code, opcode::write);
        EXPECT_EQ(seen[i].offset, at);
        at += seen[i].length;
    }
    EXPECT_EQ(at, 512 + size);
    bytes expected(4u << 20, std::byte{1});
    std::fill_n(expected.begin() + 512, size, std::byte{0});
    EXPECT_TRUE(made.read(0, 4u << 20) == expected);
    made.submitted();
    EXPECT_EQ(made.space(op::write_zeroes, 0, 4096), ublk::ok);
    EXPECT_EQ(made.space(op::write_zeroes, 0, 4096, uapi::io_flag::nounmap), ublk::ok);
    EXPECT_EQ(made.codes(), (std::vector{opcode::write, opcode::write}));
    int calls = 0;
    made.turn.kernel = [&](const submission& requested) {
        return ++calls == 2 ? -ENOSPC : real(requested);
    };
    EXPECT_EQ(made.space(op::write_zeroes, 0, 4u << 20).error(), ENOSPC);
    EXPECT_EQ(calls, 2);
    made.turn.kernel = [&](const submission&) { return 0; };
    EXPECT_EQ(made.space(op::write_zeroes, 0, 4096).error(), EIO);
}

TEST_F(file_test, nounmap_never_makes_a_hole_and_other_errors_are_no_reason_to_write) {
    served made{here.make("disk", 4u << 20), impatient};
    made.turn.kernel = [](const submission& requested) {
        return mode_of(requested) == zero ? -EOPNOTSUPP : real(requested);
    };
    EXPECT_EQ(made.space(op::write_zeroes, 0, 4096, uapi::io_flag::nounmap), ublk::ok);
    EXPECT_EQ(made.codes(), (std::vector{opcode::fallocate, opcode::write}));
    EXPECT_EQ(made.space(op::write_zeroes, 0, 4096), ublk::ok);
    const std::vector<submission> seen = made.submitted();
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(mode_of(seen[0]), punch);
    made.turn.kernel = failing(opcode::fallocate, EIO);
    EXPECT_EQ(made.space(op::write_zeroes, 0, 4096).error(), EIO);
    EXPECT_EQ(made.codes(), (std::vector{opcode::fallocate}));
}

// --- Everything at once --------------------------------------------------------------------------

/// A disk and what should be on it.
class compared {
public:
    compared(served& disk, std::uint32_t seed)
        : disk_{disk}, random_{seed}, block_{disk.disk.logical_block_size()},
          model_(disk.disk.size()) {}

    void one_request() {
        const std::uint64_t blocks = model_.size() / block_;
        const std::uint64_t first = below(blocks);
        const std::uint64_t count = 1 + below(std::min<std::uint64_t>(blocks - first, 64));
        const std::uint64_t at = first * block_, size = count * block_;
        disk_.in = payloads[below(payloads.size())];
        switch (below(8)) {
        case 0:
        case 1:
        case 2: {
            const bytes data = patterned(size, static_cast<std::uint32_t>(random_()));
            ASSERT_EQ(disk_.write(at, data, below(20) == 0 ? uapi::io_flag::fua : 0), ublk::ok);
            std::copy(data.begin(), data.end(), here(at));
            break;
        }
        case 3:
            ASSERT_EQ(disk_.space(op::discard, at, size), ublk::ok);
            std::fill(here(at), here(at + size), std::byte{0});
            break;
        case 4:
            ASSERT_EQ(
                disk_.space(op::write_zeroes, at, size, below(2) == 0 ? uapi::io_flag::nounmap : 0),
                ublk::ok);
            std::fill(here(at), here(at + size), std::byte{0});
            break;
        case 5:
            if (below(8) == 0) {  // they take most of the time
                ASSERT_EQ(disk_.flush(), ublk::ok);
            }
            break;
        default:
            ASSERT_TRUE(disk_.read(at, size) == bytes(here(at), here(at + size)));
        }
    }

    /// Somebody cuts the file.
    void cut(const std::string& path) {
        const std::uint64_t size = below(model_.size());
        if (size < fs::file_size(path)) {
            fs::resize_file(path, size);
            std::fill(here(size), model_.end(), std::byte{0});
        }
    }

    void expect_the_same() { EXPECT_TRUE(disk_.read(0, model_.size()) == model_); }

    [[nodiscard]] std::uint64_t below(std::uint64_t end) { return random_() % end; }

private:
    [[nodiscard]] bytes::iterator here(std::uint64_t at) {
        return model_.begin() + static_cast<std::ptrdiff_t>(at);
    }

    served& disk_;
    std::mt19937_64 random_;
    std::uint64_t block_;
    bytes model_;
};

TEST_P(file_on, behaves_like_a_vector_of_bytes_under_random_requests) {
    for (const bool hostile : {false, true}) {
        const std::string path = here->make(hostile ? "hostile" : "disk", (300u << 10) + 77);
        served made{path, options};
        const std::uint32_t seed = std::random_device{}();
        SCOPED_TRACE("seed " + std::to_string(seed));
        compared pair{made, seed};
        const std::uint32_t unit = options.direct ? made.disk.logical_block_size() : 1;
        if (hostile) {  // signals, and less than was asked for
            made.turn.kernel = [&](const submission& requested) {
                submission less = requested;
                const bool transfer =
                    requested.code != opcode::fallocate && requested.code != opcode::fsync;
                if (pair.below(4) == 0) {
                    return -EINTR;
                }
                if (transfer && requested.length > unit && pair.below(2) == 0) {
                    less.length = unit * static_cast<std::uint32_t>(
                                             1 + pair.below((requested.length - 1) / unit));
                }
                return real(less);
            };
        }
        for (int i = 0; i < 1500 && !HasFatalFailure(); ++i) {
            pair.one_request();
            if (pair.below(50) == 0) {
                pair.cut(path);
            }
        }
        pair.expect_the_same();
    }
}

TEST_P(file_on, behaves_the_same_where_it_does_without_the_ring) {
    const std::string path = here->make("disk", (300u << 10) + 77);
    served made = served::itself(path, options);
    const std::uint32_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    compared pair{made, seed};
    for (int i = 0; i < 1500 && !HasFatalFailure(); ++i) {
        pair.one_request();
        if (pair.below(50) == 0) {
            pair.cut(path);
        }
    }
    pair.expect_the_same();
}

TEST_P(file_on, asks_the_ring_only_for_what_a_buffered_file_cannot_do_at_once) {
    served made = served::itself(here->make("disk", 1u << 20), options);
    const bytes data = patterned(8192, 1);
    EXPECT_EQ(made.write(4096, data), ublk::ok);
    EXPECT_TRUE(made.read(4096, data.size()) == data);
    const std::vector<opcode> codes = made.codes();
    if (GetParam().where == "/dev/shm") {
        EXPECT_EQ(codes, std::vector<opcode>{});
    } else if (options.direct) {
        EXPECT_EQ(codes, (std::vector{opcode::write, opcode::read}));
    } else {  // whether a write that does not wait is to be had depends on the file system
        EXPECT_TRUE(codes.empty() || codes == std::vector{opcode::write}) << codes.size();
    }
    EXPECT_EQ(made.write(4096, data, uapi::io_flag::fua), ublk::ok);
    EXPECT_EQ(made.codes(), std::vector{opcode::write}) << "durable writes wait, so not at once";
    EXPECT_EQ(made.flush(), ublk::ok);
    EXPECT_EQ(made.codes(), std::vector{opcode::fsync});
}

TEST_F(file_test, fails_with_the_reason_that_the_ring_gives_where_a_write_at_once_does_not_work) {
    served made = served::itself(here.make("disk", 1u << 20), impatient);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{4096, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    const result half = made.write(0, patterned(8192, 1));
    const result none = made.write(8192, patterned(4096, 1));
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_EQ(half.error(), EFBIG);
    EXPECT_EQ(none.error(), EFBIG);
}

TEST_F(file_test, its_tasks_fit_into_the_memory_that_it_asks_for) {
    const std::string path = here.make("disk", 1u << 20);
    std::size_t peak = 0;
    for (const payload in : payloads) {
        served made{path, impatient};
        made.in = in;
        made.turn.kernel = [&](const submission& requested) {
            peak = std::max(peak, made.turn.frames());
            return requested.code == opcode::fallocate ? -EOPNOTSUPP : real(requested);
        };
        EXPECT_EQ(made.write(0, bytes(4096), uapi::io_flag::fua), ublk::ok);
        EXPECT_EQ(made.flush(), ublk::ok);
        EXPECT_EQ(made.space(op::write_zeroes, 0, 4096), ublk::ok);
        fs::resize_file(path, 1000);
        EXPECT_EQ(made.read(0, 4096), bytes(4096));
        EXPECT_EQ(made.turn.frames(), 0u);
        fs::resize_file(path, 1u << 20);
    }
    EXPECT_LE(peak, file::task_bytes * 3 / 4) << "little is left for other compilers";
}

// --- Block devices -------------------------------------------------------------------------------

/// A loop device over a file, if this machine has them to give.
class loop_device {
public:
    loop_device(const std::string& path, std::uint32_t block_size, std::uint32_t flags = 0) {
        const ublk::fd control{::open("/dev/loop-control", O_RDWR | O_CLOEXEC)};
        const ublk::fd backing{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
        // Between the question for a free one and its taking others may take it.
        for (int attempt = 0; control && backing && attempt < 20 && !device_; ++attempt) {
            const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
            path_ = "/dev/loop" + std::to_string(number);
            ublk::fd opened{::open(path_.c_str(), O_RDWR | O_CLOEXEC)};
            ::loop_config config{};
            config.fd = static_cast<std::uint32_t>(backing.get());
            config.block_size = block_size;
            config.info.lo_flags = flags | LO_FLAGS_AUTOCLEAR;
            if (opened && ::ioctl(opened.get(), LOOP_CONFIGURE, &config) == 0) {
                device_ = std::move(opened);
            }
        }
    }

    [[nodiscard]] explicit operator bool() const { return static_cast<bool>(device_); }
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    std::string path_;
    ublk::fd device_;  // the device goes with the last that has it open
};

class file_on_device : public testing::TestWithParam<bool> {
protected:
    void SetUp() override { options.direct = GetParam(); }
    directory here{fs::temp_directory_path()};
    file_options options{.lock_wait = 60s};  // udev looks at each new device
};

INSTANTIATE_TEST_SUITE_P(either, file_on_device, testing::Bool(), [](const auto& tested) {
    return std::string{tested.param ? "direct" : "buffered"};
});

TEST_P(file_on_device, has_the_limits_of_the_device) {
    for (const std::uint32_t block : {512u, 4096u}) {
        const loop_device loop{here.make("backing", (4u << 20) + 512), block};
        if (!loop) {
            GTEST_SKIP() << "no loop device to be had";
        }
        const file disk{loop.path(), options};
        const ublk::disk_attributes outcome = ublk::attributes_of(disk);
        EXPECT_NO_THROW(ublk::validate(outcome, page));
        EXPECT_EQ(outcome.logical_block_size, block);
        EXPECT_EQ(outcome.size, (4u << 20) + (block == 512 ? 512u : 0u));
        EXPECT_GE(outcome.physical_block_size, block);
        EXPECT_FALSE(outcome.read_only);
        file_options small = options;
        small.logical_block_size = 512;
        small.read_only = true;
        if (block == 4096) {
            EXPECT_EQ(refusal(loop.path(), small).errno_value(), EINVAL);
        } else {
            EXPECT_NO_THROW((file{loop.path(), small}));
        }
    }
}

TEST_P(file_on_device, offers_what_its_queue_can_do) {
    const loop_device loop{here.make("backing", 4u << 20), 512};
    if (!loop) {
        GTEST_SKIP() << "no loop device to be had";
    }
    const ublk::fd device{::open(loop.path().c_str(), O_RDONLY | O_CLOEXEC)};
    ASSERT_TRUE(device);
    fs::create_directories(here / "device/queue");
    const auto limits_with = [&](const std::string& name, std::uint64_t value) {
        std::ofstream{here / ("device/" + name)} << value << '\n';
        const auto outcome = detail::limits_of_device(device.get(), "x", here / "device", options);
        EXPECT_NO_THROW(ublk::validate(outcome, page)) << name;
        return outcome;
    };
    // A hole in a device is a write of zeroes that may unmap: it takes both.
    EXPECT_EQ(limits_with("queue/discard_max_bytes", 1u << 30).max_discard_size, 0u);
    EXPECT_EQ(limits_with("queue/discard_max_bytes", 0).max_write_zeroes_size, 64u << 20);
    EXPECT_EQ(limits_with("queue/write_zeroes_max_bytes", 1u << 30).max_discard_size, 0u);
    const auto both = limits_with("queue/discard_max_bytes", 1u << 30);
    EXPECT_EQ(both.max_discard_size, 0xffff'ffffu);
    EXPECT_EQ(both.max_write_zeroes_size, 0xffff'ffffu);
    EXPECT_EQ(limits_with("queue/discard_granularity", 3u << 20).discard_granularity, 1u << 20);
    EXPECT_EQ(limits_with("discard_alignment", 4096).discard_alignment, 4096u);
    EXPECT_EQ(limits_with("discard_alignment", 5u << 20).discard_alignment, 0u);
    EXPECT_EQ(limits_with("queue/dma_alignment", 511).dma_alignment, options.direct ? 512u : 0u);
    EXPECT_EQ(limits_with("queue/dma_alignment", 1u << 20).dma_alignment,
              options.direct ? 4u : 0u);  // nonsense: what divides it, which is the default
}

TEST_P(file_on_device, behaves_like_a_vector_of_bytes_under_random_requests) {
    const loop_device loop{here.make("backing", 300u << 10), 512};
    if (!loop) {
        GTEST_SKIP() << "no loop device to be had";
    }
    served made{loop.path(), options};
    if (made.disk.max_discard_size() == 0) {
        GTEST_SKIP() << "the loop device cannot discard";
    }
    const std::uint32_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    compared pair{made, seed};
    for (int i = 0; i < 1000 && !HasFatalFailure(); ++i) {
        pair.one_request();
    }
    pair.expect_the_same();
}

TEST_P(file_on_device, is_served_once_for_writing) {
    const loop_device loop{here.make("backing", 4u << 20), 512};
    if (!loop) {
        GTEST_SKIP() << "no loop device to be had";
    }
    const file first{loop.path(), options};
    file_options impatient = options;
    impatient.lock_wait = 0ms;
    const ublk::error failed = refusal(loop.path(), impatient);
    EXPECT_EQ(failed.errno_value(), EBUSY);
    EXPECT_NE(std::string{failed.remedy()}.find("lsblk"), std::string::npos);
}

TEST_P(file_on_device, that_is_write_protected_becomes_a_read_only_disk) {
    const loop_device loop{here.make("backing", 4u << 20), 512, LO_FLAGS_READ_ONLY};
    if (!loop) {
        GTEST_SKIP() << "no loop device to be had";
    }
    served made{loop.path(), options};
    EXPECT_TRUE(made.disk.read_only());
    EXPECT_EQ(made.disk.max_discard_size(), 0u);
    EXPECT_EQ(made.read(4096, 4096), bytes(4096));
    EXPECT_NO_THROW((file{loop.path(), options}));  // and any number of them
}

TEST_F(file_test, a_loop_device_without_a_file_is_refused) {
    const ublk::fd control{::open("/dev/loop-control", O_RDWR | O_CLOEXEC)};
    // One of our own: a free one may be taken by another test at any time.
    const int number = 500'000 + ::getpid() % 100'000;
    if (!control || ::ioctl(control.get(), LOOP_CTL_ADD, number) != number) {
        GTEST_SKIP() << "no loop device to be had";
    }
    const std::string path = "/dev/loop" + std::to_string(number);
    if (fs::exists(path)) {
        const int code = refusal(path, {.read_only = true, .lock_wait = 0ms}).errno_value();
        EXPECT_TRUE(code == EINVAL || code == ENXIO) << code;
    }
    EXPECT_EQ(::ioctl(control.get(), LOOP_CTL_REMOVE, number), 0);
}

}  // namespace
}  // namespace file_test
