// SPDX-License-Identifier: MIT

// Everything that can go wrong at start, on purpose: each failure ends in time, in words that name
// the command, the cause and the remedy, and leaves nothing behind. And the control commands one by
// one.

#include "backends.hpp"
#include "client.hpp"

#include <ublk/ublk.hpp>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

namespace ublk_test {
namespace error_test {
namespace {

using ublk::uapi::op;

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint32_t no_such_device = 987654;

class errors : public on_a_clean_system {
protected:
    /// The error of a start that is expected to fail, after which nothing is left. It must not wait
    /// for its deadline, which is later than `disk` would wait.
    template <class Backend>
    ublk::error start_error(Backend backend, ublk::options requested) {
        auto d = make_disk(std::move(backend), std::move(requested));
        std::optional<ublk::error> refused;
        try {
            d.start();
        } catch (const ublk::error& thrown) {
            refused = thrown;
        }
        EXPECT_EQ(d->state(), refused ? ublk::device_state::idle : ublk::device_state::live);
        if (!refused) {
            throw std::runtime_error{"start() worked"};
        }
        EXPECT_EQ(list(devices()), list(devices_before()));
        EXPECT_TRUE(nothing_more_than(held_before()));
        return *refused;
    }
};

class commands : public on_a_clean_system {};

template <class Call>
[[nodiscard]] std::optional<ublk::error> caught(Call&& call) {
    try {
        call();
    } catch (const ublk::error& thrown) {
        return thrown;
    }
    return std::nullopt;
}

/// Whether an error has all its parts, and its sentence too.
[[nodiscard]] testing::AssertionResult says(const ublk::error& refused, int code,
                                            std::string_view command, std::string_view cause,
                                            std::string_view remedy) {
    const std::string_view all = refused.what();
    const auto has = [all](std::string_view words) {
        return all.find(words) != std::string_view::npos;
    };
    const bool good = refused.errno_value() == code && refused.command() == command &&
                      refused.cause().find(cause) != std::string_view::npos &&
                      refused.remedy().find(remedy) != std::string_view::npos && has(command) &&
                      has(refused.cause()) && has(refused.remedy()) &&
                      has("errno " + std::to_string(code));
    return (good ? testing::AssertionSuccess() : testing::AssertionFailure())
           << "errno " << code << " of " << command << " because of " << cause << ", do " << remedy
           << " is wanted, and is: " << all;
}

/// The same for a message that came out of a child.
[[nodiscard]] testing::AssertionResult mentions(const std::string& text,
                                                std::initializer_list<const char*> words) {
    for (const char* const word : words) {
        if (text.find(word) == std::string::npos) {
            return testing::AssertionFailure() << "no \"" << word << "\" in: " << text;
        }
    }
    return testing::AssertionSuccess();
}

[[nodiscard]] ublk::uapi::dev_info one_small_queue() {
    ublk::uapi::dev_info ask;
    ask.dev_id = ublk::uapi::any_dev_id;
    ask.nr_hw_queues = 1;
    ask.queue_depth = 4;
    ask.max_io_buf_bytes = 64u << 10;
    return ask;
}

// ---------------------------------------------------------------- no driver, no permission

/// Unloads ublk_drv, and loads it again.
class without_module {
public:
    without_module() {
        gone_ = ::syscall(SYS_delete_module, "ublk_drv", O_NONBLOCK) == 0;
        code_ = gone_ ? 0 : errno;
    }
    without_module(const without_module&) = delete;
    without_module& operator=(const without_module&) = delete;
    ~without_module() {
        if (gone_) {
            EXPECT_TRUE(load());
            EXPECT_TRUE(eventually([] { return ::access("/dev/ublk-control", R_OK | W_OK) == 0; }));
        }
    }

    [[nodiscard]] int code() const noexcept { return code_; }

private:
    static bool load() {
        const int file = ::open("/lib/modules/ublk_drv.ko", O_RDONLY | O_CLOEXEC);
        if (file < 0) {
            return sh("modprobe ublk_drv").ok();
        }
        const bool loaded = ::syscall(SYS_finit_module, file, "", 0) == 0;
        ::close(file);
        return loaded;
    }

    bool gone_ = false;
    int code_ = 0;
};

TEST_F(errors, without_the_module_start_says_how_to_load_it) {
    if (!devices().empty()) {
        GTEST_SKIP() << "there are devices that are not ours: " << list(devices());
    }
    const without_module now;
    if (now.code() != 0) {
        GTEST_SKIP() << "ublk_drv cannot be unloaded, errno " << now.code();
    }
    ASSERT_TRUE(eventually([] { return ::access("/dev/ublk-control", F_OK) != 0; }));
    EXPECT_TRUE(says(start_error(ram{1 * mib}, small()), ENOENT, "opening /dev/ublk-control",
                     "not loaded", "modprobe ublk_drv"));
}

/// What a start in a process of its own says, which `prepare` made ill.
template <class Prepare>
[[nodiscard]] std::string start_in_child(Prepare prepare, const ublk::options& requested) {
    child_process child{[&](const child_process::link& parent) {
        ublk::device<ram> device{ram{1 * mib}, requested};
        prepare();
        try {
            device.start();
            parent.say("it started");
        } catch (const ublk::error& refused) {
            parent.say(std::to_string(refused.errno_value()) + " " + refused.what());
        }
    }};
    const std::string outcome = child.hear();
    return child.gone() && child.exit_code() == 0 ? outcome : outcome + " (and did not end well)";
}

void become_nobody() {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) {
        throw std::runtime_error{"setuid"};
    }
}

TEST_F(errors, a_user_who_may_not_open_the_control_node_is_told_so) {
    const std::string outcome = start_in_child(become_nobody, small());
    EXPECT_TRUE(mentions(outcome, {"13 ublk: opening /dev/ublk-control", "Permission denied",
                                   "Likely cause: this user may not open it", "Remedy: run as root",
                                   "a udev rule that opens it is not enough"}));
}

TEST_F(errors, a_user_who_may_open_the_control_node_but_not_add_devices_is_told_so) {
    struct stat before {};
    ASSERT_EQ(::stat("/dev/ublk-control", &before), 0);
    ASSERT_EQ(::chmod("/dev/ublk-control", 0666), 0);
    const std::string outcome = start_in_child(become_nobody, small());
    EXPECT_EQ(::chmod("/dev/ublk-control", before.st_mode & 07777), 0);
    EXPECT_TRUE(
        mentions(outcome, {"1 ublk: ADD_DEV failed", "CAP_SYS_ADMIN", "Remedy: run as root"}));
}

// ---------------------------------------------------------------- ids and limits

TEST_F(errors, an_id_that_is_taken_is_named_and_its_owner_is_not_disturbed) {
    ublk::options requested = small();
    requested.id = 7;
    auto first = start_disk(ram{1 * mib}, requested);
    EXPECT_EQ(first->id(), 7u);
    EXPECT_EQ(first->path(), "/dev/ublkb7");
    auto second = make_disk(ram{1 * mib}, requested);
    const auto refused = caught([&] { second.start(); });
    ASSERT_TRUE(refused);
    EXPECT_TRUE(says(*refused, EEXIST, "ADD_DEV", "this id exists", "another id"));
    EXPECT_EQ(refused->device(), 7u);
    EXPECT_NE(std::string{refused->what()}.find("for device 7"), std::string::npos);
    client file{first->path()};
    EXPECT_EQ(file.write(0, pattern(0, 4096, 1)), 0);
}

TEST_F(errors, the_highest_id_is_granted_and_one_more_refused) {
    ublk::options requested = small();
    requested.id = (1u << 20) - 1;
    {
        const auto d = start_disk(ram{1 * mib}, requested);
        EXPECT_EQ(d->path(), "/dev/ublkb1048575");
        client file{d->path()};
        EXPECT_EQ(file.write(0, pattern(0, 4096, 1)), 0);
    }
    requested.id = 1u << 20;
    EXPECT_TRUE(says(start_error(ram{1 * mib}, requested), EINVAL, "checking the options", "id is",
                     "1048576"));
}

TEST_F(errors, the_limit_on_devices_is_named_and_is_not_for_root_in_newer_drivers) {
    constexpr const char* limit = "/sys/module/ublk_drv/parameters/ublks_max";
    const std::string before = read_line(limit);
    struct stat node {};
    ASSERT_EQ(::stat("/dev/ublk-control", &node), 0);
    if (before.empty() || !write_text(limit, "0")) {
        GTEST_SKIP() << "no writable " << limit;
    }
    // Drivers before 6.16 counted everybody's devices, but 6.12.107 does not any more.
    {
        auto d = make_disk(ram{1 * mib}, small());
        const auto refused = caught([&] { d.start(); });
        EXPECT_TRUE(!refused || running_kernel() < (ublk::kernel_version{6, 16}));
        if (refused) {
            EXPECT_TRUE(says(*refused, EACCES, "ADD_DEV", "limit", "ublks_max"));
        }
    }
    EXPECT_EQ(::chmod("/dev/ublk-control", 0666), 0);
    child_process child{[](const child_process::link& parent) {
        become_nobody();
        ublk::uapi::dev_info ask = one_small_queue();
        ask.flags = ublk::uapi::feature::unprivileged_dev;
        const auto refused = caught([&] { (void)open_control().add_dev(ask); });
        parent.say(refused ? refused->what() : "it was added");
    }};
    EXPECT_TRUE(mentions(child.hear(), {"ublk: ADD_DEV failed", "errno 13",
                                        "the limit on ublk devices is reached", "ublks_max"}));
    EXPECT_TRUE(child.gone());
    EXPECT_EQ(::chmod("/dev/ublk-control", node.st_mode & 07777), 0);
    EXPECT_TRUE(write_text(limit, before));
}

// ---------------------------------------------------------------- parameters

TEST_F(errors, a_logical_block_size_above_the_page_size_is_refused_in_words) {
    EXPECT_TRUE(says(start_error(block_ram{1 * mib, 8192}, small()), EINVAL,
                     "checking the backend's attributes", "logical_block_size is 8192",
                     "power of two from 512 to 4096"));
    EXPECT_TRUE(says(start_error(block_ram{1 * mib, 1000}, small()), EINVAL,
                     "checking the backend's attributes", "logical_block_size is 1000",
                     "power of two"));
}

/// Of a size that no memory has.
struct sized {
    std::uint64_t bytes;
    [[nodiscard]] std::uint64_t size() const noexcept { return bytes; }
    static constexpr std::uint32_t logical_block_size = 4096;
    static ublk::result read(const ublk::request&, std::span<std::byte> out) noexcept {
        std::memset(out.data(), 0, out.size());
        return ublk::ok;
    }
    static ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        return ublk::ok;
    }
};

TEST_F(errors, a_size_of_nothing_or_of_a_part_of_a_block_is_refused_in_words) {
    for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{4095}, mib + 512}) {
        EXPECT_TRUE(says(start_error(sized{size}, small()), EINVAL,
                         "checking the backend's attributes",
                         "size is " + std::to_string(size) + " bytes", "positive multiple"));
    }
}

TEST_F(errors, the_smallest_and_the_largest_disk_have_their_exact_size) {
    for (const std::uint64_t size : {std::uint64_t{4096}, (std::uint64_t{1} << 63) - 4096}) {
        const auto d = start_disk(sized{size}, small());
        client file{d->path(), O_RDONLY | O_DIRECT};
        ASSERT_EQ(file.open_error(), 0);
        std::uint64_t seen = 0;
        ASSERT_EQ(file.size(seen), 0);
        EXPECT_EQ(seen, size);
        bytes last(4096);
        EXPECT_EQ(file.read(size - 4096, last), 0);
    }
}

TEST_F(errors, options_that_no_driver_takes_are_refused_in_words) {
    const auto with = [](auto change) {
        ublk::options requested = small();
        change(requested);
        return requested;
    };
    const struct {
        ublk::options requested;
        const char* cause;
    } cases[] = {
        {with([](ublk::options& o) { o.queues = 4097; }), "queues is 4097"},
        {with([](ublk::options& o) { o.depth = 0; }), "depth is 0"},
        {with([](ublk::options& o) { o.depth = 4097; }), "depth is 4097"},
        {with([](ublk::options& o) { o.max_io_bytes = 512; }), "max_io_bytes is 512"},
        {with([](ublk::options& o) { o.max_io_bytes = (32u << 20) + 1; }), "max_io_bytes is"},
        {with([](ublk::options& o) { o.command_deadline = 0ms; }), "deadline"},
    };
    for (const auto& c : cases) {
        EXPECT_TRUE(says(start_error(ram{1 * mib}, c.requested), EINVAL, "checking the options",
                         c.cause, "choose"));
    }
}

// ---------------------------------------------------------------- partitions

/// A disk with one partition, by an MBR.
[[nodiscard]] ram partitioned() {
    const ram backend{4 * mib};
    const unsigned char entry[16] = {0, 0, 2, 0, 0x83, 0, 3, 0, 0, 8, 0, 0, 0, 8, 0, 0};
    std::memcpy(backend.store().data() + 446, entry, sizeof entry);
    backend.store()[510] = std::byte{0x55};
    backend.store()[511] = std::byte{0xaa};
    return backend;
}

[[nodiscard]] bool has_partition(std::uint32_t id) {
    const std::string name = "ublkb" + std::to_string(id);
    return ::access(("/sys/block/" + name + "/" + name + "p1").c_str(), F_OK) == 0;
}

TEST_F(errors, partitions_are_found_unless_they_are_not_wanted) {
    const auto d = start_disk(partitioned(), small());
    EXPECT_TRUE(eventually([&] { return has_partition(d->id()); }));
}

TEST_F(errors, without_partition_scan_there_are_no_partitions_or_the_kernel_is_too_old_for_it) {
    ublk::options requested = small();
    requested.partition_scan = false;
    const bool known = bounded("GET_FEATURES", [] {
        return (open_control().get_features() & ublk::uapi::feature::no_auto_part_scan) != 0;
    });
    EXPECT_EQ(known, running_kernel() >= (ublk::kernel_version{7, 0}));
    const ram backend = partitioned();
    if (!known) {
        EXPECT_TRUE(says(start_error(backend, requested), EOPNOTSUPP, "ADD_DEV",
                         "cannot leave partitions alone", "7.0"));
        return;
    }
    const auto d = start_disk(backend, requested);
    EXPECT_NE(d->info().flags & ublk::uapi::feature::no_auto_part_scan, 0u);
    std::this_thread::sleep_for(300ms);  // a scan would be asynchronous
    EXPECT_FALSE(has_partition(d->id()));
    EXPECT_EQ(backend.count(op::read), 0u);
}

TEST_F(errors, a_backend_that_does_not_answer_the_partition_scan_ends_start_in_time) {
    const gate door;
    ublk::options requested = small(1);
    requested.command_deadline = 5s;
    requested.stop_deadline = 1s;
    auto d = make_disk(ram{1 * mib, door.as_hook()}, requested);
    door.shut();
    const std::optional<ublk::error> refused = caught([&] { d.start(); });
    std::uint32_t id = 0;
    if (running_kernel() < ublk::kernel_version{7, 0}) {
        EXPECT_TRUE(refused) << "the scan is part of START_DEV";
        if (refused) {
            EXPECT_TRUE(says(*refused, ETIMEDOUT, "START_DEV", "partition table", "backend"));
            id = refused->device().value_or(0);
        }
        door.open();
        bounded("DEL_DEV", [id] { open_control().del_dev(id); });
    } else {
        EXPECT_FALSE(refused) << refused->what();
        door.open();
        d.stop();
    }
    EXPECT_EQ(list(devices()), list(devices_before()));
}

// ---------------------------------------------------------------- shortages

/// What the heuristic refuses is what no machine has; the guest's own setting refuses nothing.
class usual_overcommit {
public:
    usual_overcommit() : before_{read_line(path)} { (void)write_text(path, "0"); }
    usual_overcommit(const usual_overcommit&) = delete;
    usual_overcommit& operator=(const usual_overcommit&) = delete;
    ~usual_overcommit() { (void)write_text(path, before_); }

private:
    static constexpr const char* path = "/proc/sys/vm/overcommit_memory";
    std::string before_;
};

TEST_F(errors, buffers_beyond_all_memory_are_refused_in_words) {
    const usual_overcommit now;
    ublk::options requested = patient();
    requested.queues = 64;
    requested.depth = 4096;
    requested.max_io_bytes = 32u << 20;
    requested.path = ublk::data_path::copy;  // or it does without
    const ublk::error refused = start_error(ram{1 * mib}, requested);
    EXPECT_TRUE(says(refused, ENOMEM, "allocating tag buffers", "bytes", "ask for less depth"));
}

TEST_F(errors, a_process_with_little_address_space_is_told_what_it_lacks) {
    if (with_asan) {
        GTEST_SKIP() << "AddressSanitizer itself needs terabytes of addresses";
    }
    ublk::options requested = small();
    requested.depth = 64;
    requested.max_io_bytes = 4u << 20;  // 256 MiB a queue
    requested.path = ublk::data_path::copy;
    const std::string outcome = start_in_child(
        [] {
            const rlimit less{std::size_t{300} << 20, std::size_t{300} << 20};
            if (::setrlimit(RLIMIT_AS, &less) != 0) {
                throw std::runtime_error{"setrlimit"};
            }
        },
        requested);
    EXPECT_TRUE(
        mentions(outcome, {"12 ublk: ", "Cannot allocate memory", "Likely cause", "Remedy"}));
}

// CAP_IPC_LOCK sets the limit aside, so a child has to be without it.
void lock_little() {
    const rlimit little{64 << 10, 64 << 10};
    if (::setrlimit(RLIMIT_MEMLOCK, &little) != 0 || ::prctl(PR_CAPBSET_DROP, 14, 0, 0, 0) != 0) {
        throw std::runtime_error{"setrlimit"};
    }
    struct {
        std::uint32_t version = 0x20080522;
        int pid = 0;
    } header;
    struct {
        std::uint32_t effective, permitted, inheritable;
    } sets[2]{};
    if (::syscall(SYS_capget, &header, &sets) != 0) {
        throw std::runtime_error{"capget"};
    }
    sets[0].effective &= ~(1u << 14);
    sets[0].permitted &= ~(1u << 14);
    if (::syscall(SYS_capset, &header, &sets) != 0) {
        throw std::runtime_error{"capset"};
    }
}

TEST_F(errors, buffers_that_must_be_locked_and_may_not_are_refused_in_words) {
    if (with_asan) {
        GTEST_SKIP() << "AddressSanitizer makes mlock do nothing";
    }
    ublk::options requested = small();
    requested.lock_buffers = true;
    requested.fall_back = false;
    const std::string outcome = start_in_child(lock_little, requested);
    EXPECT_TRUE(
        mentions(outcome, {"12 ublk: locking tag buffers", "limit on locked memory", "ulimit -l"}));
}

/// Serves by registered buffers where it can, else by plain memory.
class in_memfd {
public:
    static constexpr unsigned operations_in_flight = 1;

    explicit in_memfd(std::uint64_t) : file_{::memfd_create("ublk-test", MFD_CLOEXEC)} {
        (void)::ftruncate(file_.get(), 1 * mib);
    }
    [[nodiscard]] std::uint64_t size() const noexcept { return 1 * mib; }

    ublk::task read(ublk::io& with, const ublk::request& r, ublk::registered_buffer out) {
        const int outcome = co_await with.read(file_.get(), out, r.offset());
        co_return answer(r, outcome);
    }
    ublk::task write(ublk::io& with, const ublk::request& r, ublk::registered_buffer in) {
        const int outcome = co_await with.write(file_.get(), in, r.offset());
        co_return answer(r, outcome);
    }
    ublk::result read(const ublk::request& r, std::span<std::byte> out) {
        return answer(r,
                      ::pread(file_.get(), out.data(), out.size(), static_cast<off_t>(r.offset())));
    }
    ublk::result write(const ublk::request& r, std::span<const std::byte> in) {
        return answer(r,
                      ::pwrite(file_.get(), in.data(), in.size(), static_cast<off_t>(r.offset())));
    }

private:
    static ublk::result answer(const ublk::request& r, std::int64_t outcome) {
        return outcome == static_cast<std::int64_t>(r.length()) ? ublk::ok
                                                                : ublk::result{std::errc::io_error};
    }

    ublk::fd file_;
};

/// Starts a device in a child that may lock little memory. What was granted, or the error.
template <class Backend>
std::string granted_with_little_locked(const ublk::options& requested) {
    child_process child{[&](const child_process::link& parent) {
        std::string outcome;
        try {
            ublk::device<Backend> device{Backend{1 * mib}, requested};
            lock_little();
            device.start();
            {
                client file{device.path()};
                outcome = file.write(0, pattern(0, 64 * kib, 17)) == 0 &&
                                  holds(file, 0, pattern(0, 64 * kib, 17))
                              ? ""
                              : "wrong bytes by ";
            }
            outcome +=
                std::string{to_string(device.info().path)} + " (" + device.info().path_reason + ")";
            for (const std::string& each : device.info().fallbacks) {
                outcome += "; " + each;
            }
            device.stop();
        } catch (const std::exception& thrown) {
            outcome = std::string{"not started: "} + thrown.what();
        }
        parent.say(outcome);
    }};
    return child.hear();
}

TEST_F(errors, buffers_that_may_not_be_locked_serve_all_the_same) {
    if (with_asan) {
        GTEST_SKIP() << "AddressSanitizer makes mlock do nothing";
    }
    ublk::options requested = small();
    requested.lock_buffers = true;
    const std::string outcome = granted_with_little_locked<ram>(requested);
    EXPECT_TRUE(mentions(outcome, {"copy (", "; locking tag buffers failed: ",
                                   "exceed the limit on locked memory"}));
}

// Where the kernel has no zero copy, the buffers would be registered, which counts as locked.
TEST_F(errors, buffers_that_may_not_be_registered_lead_to_another_data_path) {
    ublk::options requested = small();
    const std::string outcome = granted_with_little_locked<in_memfd>(requested);
    const std::uint64_t known = open_control().get_features();
    if ((known & ublk::uapi::feature::support_zero_copy) == 0) {
        EXPECT_TRUE(mentions(outcome, {"copy (",
                                       "not fixed_copy: registering the tag buffers with "
                                       "io_uring failed: ",
                                       "the limit on locked memory is reached"}));
    }
    EXPECT_EQ(outcome.find("not started"), outcome.npos) << outcome;
    EXPECT_EQ(outcome.find("wrong bytes"), outcome.npos) << outcome;

    requested.path = ublk::data_path::fixed_copy;
    EXPECT_TRUE(mentions(granted_with_little_locked<in_memfd>(requested),
                         {"not started: ", "registering the tag buffers", "ulimit -l"}));
}

TEST_F(errors, running_out_of_descriptors_at_any_step_says_so_and_leaves_nothing) {
    ublk::options requested = small();
    child_process child{[&](const child_process::link& parent) {
        ublk::device<ram> device{ram{1 * mib}, requested};
        // Standard files and the two pipes are open; the start takes some more.
        const auto open = held().files;
        const std::set<std::string> before = devices();
        bool started = false;
        for (std::size_t more = 0; more < 30 && !started; ++more) {
            const rlimit little{open + more, 1024};
            if (::setrlimit(RLIMIT_NOFILE, &little) != 0) {
                throw std::runtime_error{"setrlimit"};
            }
            std::string outcome;
            try {
                device.start();
                started = true;
            } catch (const ublk::error& refused) {
                const std::string what = refused.what();
                const bool good = refused.errno_value() == EMFILE &&
                                  what.find("no file descriptor is left") != std::string::npos &&
                                  what.find("ulimit -n") != std::string::npos;
                outcome = good ? "" : what;
            }
            const rlimit enough{1024, 1024};
            if (::setrlimit(RLIMIT_NOFILE, &enough) != 0) {
                throw std::runtime_error{"setrlimit"};
            }
            if (!outcome.empty()) {
                parent.say(std::to_string(more) + ": " + outcome);
            }
            if (!started && devices() != before) {
                parent.say(std::to_string(more) + ": left " + list(devices()));
            }
        }
        device.stop();
        parent.say(started ? "it started" : "it never started");
    }};
    EXPECT_EQ(child.hear(), "it started");
    for (std::string more = child.hear(); more != "(nothing)"; more = child.hear()) {
        ADD_FAILURE() << more;
    }
    EXPECT_TRUE(child.gone());
    EXPECT_EQ(child.exit_code(), 0);
}

TEST_F(errors, a_system_without_threads_left_is_named_and_nothing_is_left) {
    // The kernel needs one itself for most control commands, so that is where it shows.
    constexpr const char* limit = "/proc/sys/kernel/threads-max";
    const std::string before = read_line(limit);
    const std::string outcome = start_in_child(
        [] {
            if (!write_text(limit, "20")) {
                throw std::runtime_error{"threads-max"};
            }
        },
        small());
    ASSERT_TRUE(write_text(limit, before));
    EXPECT_TRUE(
        mentions(outcome, {" ublk: ", "Likely cause: ", "thread", "Remedy: raise `ulimit -u`"}));
}

// ---------------------------------------------------------------- control commands

TEST_F(commands, every_command_on_a_device_that_does_not_exist_says_so) {
    auto c = open_control();
    const struct {
        const char* name;
        std::function<void()> call;
    } calls[] = {
        {"GET_DEV_INFO", [&] { (void)c.get_dev_info(no_such_device); }},
        {"GET_DEV_INFO2", [&] { (void)c.get_dev_info2(no_such_device, "/dev/ublkc987654"); }},
        {"GET_PARAMS", [&] { (void)c.get_params(no_such_device); }},
        {"SET_PARAMS",
         [&] {
             ublk::uapi::params params;
             params.len = sizeof params;
             params.types = ublk::uapi::param_type::basic;
             c.set_params(no_such_device, params);
         }},
        {"GET_QUEUE_AFFINITY",
         [&] { (void)c.get_queue_affinity(no_such_device, ublk::queue_id{0}); }},
        {"START_DEV", [&] { c.start_dev(no_such_device, ::getpid()); }},
    };
    for (const auto& one : calls) {
        const auto refused = caught(one.call);
        ASSERT_TRUE(refused) << one.name;
        EXPECT_TRUE(says(*refused, ENODEV, one.name, "there is no such device", "ls /dev/ublkc*"));
        EXPECT_EQ(refused->device(), no_such_device);
        EXPECT_NE(std::string{refused->what()}.find("for device 987654"), std::string::npos);
    }
}

TEST_F(commands, stopping_and_deleting_what_is_gone_is_done_already) {
    auto c = open_control();
    EXPECT_FALSE(caught([&] { c.stop_dev(no_such_device, patience); }));
    EXPECT_FALSE(caught([&] { c.del_dev(no_such_device); }));
    EXPECT_FALSE(caught([&] { c.del_dev_async(no_such_device); }));
}

TEST_F(commands, the_features_of_the_driver_are_those_of_its_kernel) {
    const std::uint64_t known =
        bounded("GET_FEATURES", [] { return open_control().get_features(); });
    namespace feature = ublk::uapi::feature;
    const std::uint64_t always = feature::need_get_data | feature::user_recovery |
                                 feature::unprivileged_dev | feature::cmd_ioctl_encode |
                                 feature::user_copy;
    EXPECT_EQ(known & always, always);
    const struct {
        std::uint64_t flag;
        ublk::kernel_version since;
    } later[] = {{feature::update_size, {6, 16}}, {feature::auto_buf_reg, {6, 16}},
                 {feature::batch_io, {7, 0}},     {feature::no_auto_part_scan, {7, 0}},
                 {feature::shmem_zc, {7, 1}},     {feature::io_desc_size, {7, 3}}};
    for (const auto& one : later) {
        EXPECT_EQ((known & one.flag) != 0, running_kernel() >= one.since)
            << "flag " << std::hex << one.flag;
    }
    const auto d = start_disk(ram{1 * mib}, small());
    EXPECT_EQ(d->info().driver_features, known);
}

TEST_F(commands, both_ways_to_ask_for_a_device_agree_with_what_start_was_granted) {
    const auto d = start_disk(ram{1 * mib}, small());
    auto c = open_control();
    const ublk::uapi::dev_info one = c.get_dev_info(d->id());
    const ublk::uapi::dev_info two = c.get_dev_info2(d->id(), d->char_path());
    EXPECT_EQ(std::memcmp(&one, &two, sizeof one), 0);
    const ublk::device_info granted = d->info();
    EXPECT_EQ(one.dev_id, granted.id);
    EXPECT_EQ(one.nr_hw_queues, granted.queues);
    EXPECT_EQ(one.queue_depth, granted.depth);
    EXPECT_EQ(one.max_io_buf_bytes, granted.max_io_bytes);
    EXPECT_EQ(one.flags, granted.flags);
    EXPECT_EQ(one.state, ublk::uapi::dev_state::live);
    EXPECT_EQ(one.pid, ::getpid());
    EXPECT_EQ(granted.io_desc_size, 24);
    EXPECT_NE(granted.ring_flags, 0u);
    const auto refused = caught([&] { (void)c.get_dev_info2(d->id(), "/dev/null"); });
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->errno_value(), EPERM) << refused->what();
}

TEST_F(commands, the_parameters_are_those_that_were_derived_from_the_backend) {
    const auto d = start_disk(trimming_ram{8 * mib, 1 * mib}, small());
    const ublk::uapi::params params = open_control().get_params(d->id());
    namespace type = ublk::uapi::param_type;
    EXPECT_EQ(params.types & (type::basic | type::discard | type::devt),
              type::basic | type::discard | type::devt);
    EXPECT_EQ(params.basic.dev_sectors, 8 * mib / 512);
    EXPECT_EQ(params.basic.logical_bs_shift, 9);
    EXPECT_EQ(params.basic.max_sectors, d->info().max_io_bytes / 512);
    EXPECT_EQ(params.basic.attrs, 0u);
    EXPECT_EQ(params.discard.max_discard_sectors, mib / 512);
    EXPECT_EQ(params.discard.max_write_zeroes_sectors, mib / 512);
    struct stat character {};
    struct stat block {};
    ASSERT_EQ(::stat(d->char_path().c_str(), &character), 0);
    ASSERT_EQ(::stat(d->path().c_str(), &block), 0);
    EXPECT_EQ(params.devt.char_major, major(character.st_rdev));
    EXPECT_EQ(params.devt.char_minor, minor(character.st_rdev));
    EXPECT_EQ(params.devt.disk_major, major(block.st_rdev));
    EXPECT_EQ(params.devt.disk_minor, minor(block.st_rdev));
}

TEST_F(commands, parameters_and_start_are_refused_on_a_live_device_in_words) {
    const auto d = start_disk(ram{1 * mib}, small());
    auto c = open_control();
    ublk::uapi::params params = c.get_params(d->id());
    params.types &= ~ublk::uapi::param_type::devt;
    const auto late = caught([&] { c.set_params(d->id(), params); });
    ASSERT_TRUE(late);
    EXPECT_TRUE(says(*late, EACCES, "SET_PARAMS", "already started", "before"));
    const auto twice = caught([&] { c.start_dev(d->id(), ::getpid()); });
    ASSERT_TRUE(twice);
    EXPECT_TRUE(says(*twice, EEXIST, "START_DEV", "live", "close"));
}

TEST_F(commands, the_queues_share_all_cpus_between_them) {
    for (const unsigned queues : {1u, 2u}) {
        const auto d = start_disk(ram{1 * mib}, small(queues));
        auto c = open_control();
        std::vector<unsigned> owners(ublk::cpu_set::cpus_max);
        for (std::uint16_t q = 0; q < d->info().queues; ++q) {
            const ublk::cpu_set cpus = c.get_queue_affinity(d->id(), ublk::queue_id{q});
            EXPECT_FALSE(cpus.empty());
            for (std::size_t cpu = 0; cpu < owners.size(); ++cpu) {
                owners[cpu] += cpus.contains(cpu) ? 1u : 0u;
            }
        }
        for (std::size_t cpu = 0; cpu < ublk::detail::online_cpus(); ++cpu) {
            EXPECT_EQ(owners[cpu], 1u) << "CPU " << cpu << " of " << queues << " queues";
        }
        const auto refused =
            caught([&] { (void)c.get_queue_affinity(d->id(), ublk::queue_id{4000}); });
        ASSERT_TRUE(refused);
        EXPECT_EQ(refused->errno_value(), EINVAL);
    }
}

TEST_F(commands, an_added_device_is_dead_until_it_starts_and_can_be_deleted_without_waiting) {
    auto c = open_control();
    const ublk::uapi::dev_info granted = c.add_dev(one_small_queue());
    EXPECT_EQ(c.get_dev_info(granted.dev_id).state, ublk::uapi::dev_state::dead);
    EXPECT_EQ(c.get_params(granted.dev_id).types, ublk::uapi::param_type::devt)
        << "nothing but the numbers of the device is set";
    c.del_dev_async(granted.dev_id);
    EXPECT_TRUE(eventually([&] { return devices() == devices_before(); }));
    const auto refused = caught([&] { (void)c.get_dev_info(granted.dev_id); });
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->errno_value(), ENODEV);
}

TEST_F(commands, start_dev_of_a_server_that_fetches_nothing_ends_at_its_deadline) {
    constexpr milliseconds deadline = 700ms;
    auto c = open_control();
    auto hasty = open_control(deadline);
    const ublk::uapi::dev_info granted = c.add_dev(one_small_queue());
    const std::uint32_t id = granted.dev_id;
    ublk::disk_attributes shape;
    shape.size = 1 * mib;
    c.set_params(id, ublk::to_params(shape, granted.max_io_buf_bytes));
    const ublk::detail::linux_kernel kernel;
    const auto opened = kernel.open_channel(
        id, ublk::detail::from_now(kernel, patience));  // but nothing is fetched
    std::optional<ublk::error> refused;
    const milliseconds took =
        time_of([&] { refused = caught([&] { hasty.start_dev(id, ::getpid()); }); });
    ASSERT_TRUE(refused);
    EXPECT_TRUE(says(*refused, ETIMEDOUT, "START_DEV", "queue did not get ready", "deadline"));
    EXPECT_GE(took, deadline);
    EXPECT_LT(took, patience);
    c.del_dev_async(id);  // since this process still has it open
}

TEST_F(commands, start_dev_before_its_parameters_are_set_is_refused_in_words) {
    auto c = open_control();
    const std::uint32_t id = c.add_dev(one_small_queue()).dev_id;
    const auto refused = caught([&] { c.start_dev(id, ::getpid()); });
    c.del_dev(id);
    ASSERT_TRUE(refused);
    EXPECT_TRUE(says(*refused, EINVAL, "START_DEV", "parameters are not set", "SET_PARAMS first"));
}

}  // namespace
}  // namespace error_test
}  // namespace ublk_test
