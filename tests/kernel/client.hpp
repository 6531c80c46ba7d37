// SPDX-License-Identifier: MIT
#pragma once

// A client of /dev/ublkbN inside the test process, and what else a test needs to say something
// about a kernel: every call that the kernel may keep is made by a helper thread and given up on at
// a deadline, which fails the test. What such a thread uses it owns, so it may be left behind.

#include "../support/thread_state.hpp"
#include "shell.hpp"

#include <ublk/control/control_commands.hpp>
#include <ublk/kernel/linux_kernel.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <ostream>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace ublk_test {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool with_asan = true;
#elif defined(__has_feature)
inline constexpr bool with_asan = __has_feature(address_sanitizer);
#else
inline constexpr bool with_asan = false;
#endif

// ---------------------------------------------------------------- time

namespace detail {

template <class T>
struct box {
    std::optional<T> value;
};
template <>
struct box<void> {};

template <class T>
struct offloaded : box<T> {
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    std::exception_ptr failure;
};

}  // namespace detail

/// Runs `call` in a thread that nobody joins: one that begot a command which the kernel keeps
/// cannot even exit before that has ended. `call` is destroyed before anybody hears of its end.
template <class T, class Call>
void send_off(std::shared_ptr<detail::offloaded<T>> state, Call call) {
    std::thread{[state = std::move(state), call = std::optional<Call>{std::move(call)}]() mutable {
        std::exception_ptr failure;
        try {
            if constexpr (std::is_void_v<T>) {
                (*call)();
            } else {
                state->value.emplace((*call)());
            }
        } catch (...) {
            failure = std::current_exception();
        }
        call.reset();
        const std::lock_guard lock{state->mutex};
        state->failure = failure;
        state->done = true;
        state->changed.notify_all();
    }}.detach();
}

/// What `call` returns or throws; throws (and so fails the test) where it takes longer than
/// `limit`. `call` owns what it uses.
template <class Call>
auto bounded(const std::string& what, Call call, milliseconds limit = patience) {
    using value = std::invoke_result_t<Call&>;
    const auto state = std::make_shared<detail::offloaded<value>>();
    send_off<value>(state, std::move(call));
    std::unique_lock lock{state->mutex};
    if (!state->changed.wait_for(lock, limit, [&] { return state->done; })) {
        throw std::runtime_error{what + " has not ended after " + std::to_string(limit.count()) +
                                 " ms"};
    }
    if (state->failure) {
        std::rethrow_exception(std::exchange(state->failure, nullptr));
    }
    if constexpr (!std::is_void_v<value>) {
        return std::move(*state->value);
    }
}

/// How long `call` took.
template <class Call>
[[nodiscard]] milliseconds time_of(Call&& call) {
    const auto begin = std::chrono::steady_clock::now();
    call();
    return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
}

/// Something that goes on in a thread of its own until the test asks for its end; what it throws
/// comes out there.
class meanwhile {
public:
    template <class Call>
    meanwhile(std::string what, Call call)
        : what_{std::move(what)}, state_{std::make_shared<detail::offloaded<void>>()} {
        send_off<void>(state_, std::move(call));
    }

    [[nodiscard]] bool done() const {
        const std::lock_guard lock{state_->mutex};
        return state_->done;
    }

    void end(milliseconds limit = patience) {
        std::unique_lock lock{state_->mutex};
        if (!state_->changed.wait_for(lock, limit, [this] { return state_->done; })) {
            throw std::runtime_error{what_ + " has not ended after " +
                                     std::to_string(limit.count()) + " ms"};
        }
        if (state_->failure) {
            std::rethrow_exception(std::exchange(state_->failure, nullptr));
        }
    }

private:
    std::string what_;
    std::shared_ptr<detail::offloaded<void>> state_;
};

// ---------------------------------------------------------------- bytes

/// Memory as direct I/O wants it, zeroed. No vector, which takes a look at every byte on its own
/// where nothing is optimised.
class bytes {
public:
    explicit bytes(std::size_t size, std::byte value = std::byte{0})
        : data_{new (alignment) std::byte[size]}, size_{size} {
        std::memset(data_.get(), std::to_integer<int>(value), size);
    }
    explicit bytes(std::span<const std::byte> copied) : bytes{copied.size()} {
        std::copy(copied.begin(), copied.end(), data());
    }
    bytes(const bytes& other) : bytes{std::span<const std::byte>{other}} {}
    bytes(bytes&&) = default;
    bytes& operator=(bytes other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }

    [[nodiscard]] std::byte* data() noexcept { return data_.get(); }
    [[nodiscard]] const std::byte* data() const noexcept { return data_.get(); }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::byte* begin() noexcept { return data(); }
    [[nodiscard]] std::byte* end() noexcept { return data() + size_; }
    [[nodiscard]] const std::byte* begin() const noexcept { return data(); }
    [[nodiscard]] const std::byte* end() const noexcept { return data() + size_; }
    [[nodiscard]] std::byte& operator[](std::size_t place) noexcept { return data()[place]; }

private:
    static constexpr std::align_val_t alignment{4096};
    struct give_back {
        void operator()(std::byte* memory) const noexcept {
            ::operator delete[](memory, alignment);
        }
    };

    std::unique_ptr<std::byte[], give_back> data_;
    std::size_t size_;
};

/// Bytes that differ from one place of a disk to any other, and from one `seed` to another.
[[nodiscard]] inline bytes pattern(std::uint64_t offset, std::size_t length, std::uint64_t seed) {
    bytes made(length);
    for (std::size_t i = 0; i < length; i += 8) {
        std::uint64_t x = (offset + i + 1) * 0x9e3779b97f4a7c15ull + seed * 0xbf58476d1ce4e5b9ull;
        x ^= x >> 29;
        x *= 0x94d049bb133111ebull;
        std::memcpy(made.data() + i, &x, std::min<std::size_t>(8, length - i));
    }
    return made;
}

/// Where two stretches differ, for a message; empty where they do not.
[[nodiscard]] inline std::string difference(std::span<const std::byte> got,
                                            std::span<const std::byte> wanted) {
    if (got.size() != wanted.size()) {
        return std::to_string(got.size()) + " bytes instead of " + std::to_string(wanted.size());
    }
    if (got.empty() || std::memcmp(got.data(), wanted.data(), got.size()) == 0) {
        return {};
    }
    const auto at = std::mismatch(got.begin(), got.end(), wanted.begin());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        wrong += got[i] != wanted[i] ? 1 : 0;
    }
    return std::to_string(wrong) + " of " + std::to_string(got.size()) +
           " bytes are wrong, the first at " + std::to_string(at.first - got.begin());
}

[[nodiscard]] inline bool all_zero(std::span<const std::byte> some) {
    return some.empty() || (some[0] == std::byte{0} &&
                            std::memcmp(some.data(), some.data() + 1, some.size() - 1) == 0);
}

// ---------------------------------------------------------------- the client

/// Answers of `client` that are no errno.
inline constexpr int short_transfer = 10001;

inline constexpr int any_cpu = -1;

/// Moves the calling thread.
inline void run_on(int cpu) {
    if (cpu != any_cpu) {
        ::cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(static_cast<unsigned>(cpu), &set);
        if (::sched_setaffinity(0, sizeof set, &set) != 0) {
            throw std::runtime_error{"no CPU " + std::to_string(cpu)};
        }
    }
}

/// An open block device. Every function returns 0 or a positive errno, or throws after `patience`.
class client {
public:
    explicit client(const std::string& path, int flags = O_RDWR | O_DIRECT)
        : path_{path}, file_{std::make_shared<handle>()} {
        open_error_ = ask("open", [file = file_, path, flags] {
            file->number = ::open(path.c_str(), flags | O_CLOEXEC);
            return file->number < 0 ? errno : 0;
        });
    }
    client(client&&) = default;
    client(const client&) = delete;
    client& operator=(client&&) = delete;

    /// The last close of a disk writes its dirty pages, so it too may take for ever.
    ~client() {
        try {
            (void)close();
        } catch (const std::exception& late) {
            ADD_FAILURE() << late.what();
        }
    }

    [[nodiscard]] int open_error() const noexcept { return open_error_; }

    int close() {
        if (!file_) {
            return 0;
        }
        auto mine = std::exchange(file_, nullptr);
        return ask("close", [file = std::move(mine)] {
            return file->number >= 0 && ::close(std::exchange(file->number, -1)) != 0 ? errno : 0;
        });
    }

    [[nodiscard]] int read(std::uint64_t offset, std::span<std::byte> out, int cpu = any_cpu,
                           int flags = 0) {
        const auto memory = std::make_shared<bytes>(out.size(), std::byte{0xee});
        const int code = ask("pread", [file = file_, memory, offset, cpu, flags] {
            run_on(cpu);
            return transfer(::preadv2, file->number, *memory, offset, flags);
        });
        std::copy(memory->begin(), memory->end(), out.begin());
        return code;
    }

    [[nodiscard]] int write(std::uint64_t offset, std::span<const std::byte> in, int cpu = any_cpu,
                            int flags = 0) {
        const auto memory = std::make_shared<bytes>(in);
        return ask("pwrite", [file = file_, memory, offset, cpu, flags] {
            run_on(cpu);
            return transfer(::pwritev2, file->number, *memory, offset, flags);
        });
    }

    [[nodiscard]] int fsync() {
        return ask("fsync", [file = file_] { return code(::fsync(file->number)); });
    }
    [[nodiscard]] int discard(std::uint64_t offset, std::uint64_t length) {
        return range("BLKDISCARD", BLKDISCARD, offset, length);
    }
    [[nodiscard]] int zero_out(std::uint64_t offset, std::uint64_t length) {
        return range("BLKZEROOUT", BLKZEROOUT, offset, length);
    }
    [[nodiscard]] int punch_hole(std::uint64_t offset, std::uint64_t length) {
        return allocate("PUNCH_HOLE", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    }
    [[nodiscard]] int zero_range(std::uint64_t offset, std::uint64_t length) {
        return allocate("ZERO_RANGE", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
    }
    [[nodiscard]] int read_only(bool& answer) {
        int number = 0;
        const int failed = get("BLKROGET", BLKROGET, number);
        answer = number != 0;
        return failed;
    }
    [[nodiscard]] int size(std::uint64_t& answer) {
        return get("BLKGETSIZE64", BLKGETSIZE64, answer);
    }
    [[nodiscard]] int logical_block_size(int& answer) {
        return get("BLKSSZGET", BLKSSZGET, answer);
    }

    /// For threads that do their own waiting.
    [[nodiscard]] int number() const noexcept { return file_->number; }

private:
    /// Closes what an open left that came too late; else `close` has done so.
    struct handle {
        handle() = default;
        handle(const handle&) = delete;
        handle& operator=(const handle&) = delete;
        ~handle() {
            if (number >= 0) {
                ::close(number);
            }
        }
        int number = -1;
    };

    [[nodiscard]] static int code(int answer) noexcept { return answer < 0 ? errno : 0; }

    template <class Function>
    [[nodiscard]] static int transfer(Function* function, int file, bytes& memory,
                                      std::uint64_t offset, int flags) {
        const iovec one{memory.data(), memory.size()};
        const ssize_t moved = function(file, &one, 1, static_cast<off_t>(offset), flags);
        return moved < 0                                         ? errno
               : static_cast<std::size_t>(moved) < memory.size() ? short_transfer
                                                                 : 0;
    }

    template <class Call>
    int ask(const char* what, Call call) {
        return bounded(std::string{what} + " on " + path_, std::move(call));
    }

    int range(const char* what, unsigned long request, std::uint64_t offset, std::uint64_t length) {
        return ask(what, [file = file_, request, offset, length] {
            std::uint64_t both[2]{offset, length};
            return code(::ioctl(file->number, request, both));
        });
    }

    int allocate(const char* what, int mode, std::uint64_t offset, std::uint64_t length) {
        return ask(what, [file = file_, mode, offset, length] {
            return code(::fallocate(file->number, mode, static_cast<off_t>(offset),
                                    static_cast<off_t>(length)));
        });
    }

    template <class T>
    int get(const char* what, unsigned long request, T& answer) {
        const auto [failed, value] = ask_both<T>(what, request);
        answer = value;
        return failed;
    }
    template <class T>
    std::pair<int, T> ask_both(const char* what, unsigned long request) {
        return bounded(std::string{what} + " on " + path_, [file = file_, request] {
            T value{};
            const int failed = code(::ioctl(file->number, request, &value));
            return std::pair{failed, value};
        });
    }

    std::string path_;
    std::shared_ptr<handle> file_;
    int open_error_ = 0;
};

/// Reads `length` bytes as the client would, and says how they differ from what is wanted.
[[nodiscard]] inline testing::AssertionResult
holds(client& disk, std::uint64_t offset, std::span<const std::byte> wanted, int cpu = any_cpu) {
    bytes got(wanted.size());
    if (const int code = disk.read(offset, got, cpu); code != 0) {
        return testing::AssertionFailure() << "reading fails with errno " << code;
    }
    const std::string wrong = difference(got, wanted);
    return wrong.empty() ? testing::AssertionSuccess()
                         : testing::AssertionFailure() << "at " << offset << ": " << wrong;
}

// ---------------------------------------------------------------- devices

using control = ublk::detail::control_commands<ublk::detail::linux_kernel>;

[[nodiscard]] inline control open_control(milliseconds limit = patience) {
    return control{ublk::detail::linux_kernel{}, limit};
}

[[nodiscard]] inline ublk::kernel_version running_kernel() {
    return ublk::detail::linux_kernel{}.version();
}

/// Names in a directory that begin with `prefix`.
[[nodiscard]] inline std::set<std::string> names_in(const char* directory,
                                                    const std::string& prefix) {
    std::set<std::string> names;
    DIR* const open = ::opendir(directory);
    if (open == nullptr) {
        return names;
    }
    while (const dirent* const entry = ::readdir(open)) {
        const std::string name = entry->d_name;
        if (name.starts_with(prefix)) {
            names.insert(name);
        }
    }
    ::closedir(open);
    return names;
}

/// Character and block devices of ublk, in sysfs and in /dev.
[[nodiscard]] inline std::set<std::string> devices() {
    std::set<std::string> all = names_in("/sys/class/ublk-char", "ublk");
    all.merge(names_in("/sys/block", "ublk"));
    all.merge(names_in("/dev", "ublkb"));
    all.merge(names_in("/dev", "ublkc"));
    return all;
}

[[nodiscard]] inline std::string list(const std::set<std::string>& names) {
    std::string text;
    for (const std::string& name : names) {
        text += (text.empty() ? "" : " ") + name;
    }
    return text;
}

/// What a process has open; workers that io_uring itself starts come and go and are not counted.
struct holdings {
    std::size_t files = 0;
    std::size_t threads = 0;
    std::size_t mappings = 0;
    std::size_t resident_kib = 0;

    friend std::ostream& operator<<(std::ostream& out, const holdings& all) {
        return out << all.files << " files, " << all.threads << " threads, " << all.mappings
                   << " mappings, " << all.resident_kib << " KiB";
    }
};

/// A number of kB in /proc/self/status.
[[nodiscard]] inline std::size_t status_kib(const std::string& key) {
    const std::string text = read_text("/proc/self/status");
    const std::size_t at = text.find("\n" + key + ":");
    return at == std::string::npos ? 0 : std::stoul(text.substr(at + key.size() + 2));
}

/// Whether that thread of ours sleeps as one does that waits for a disk, beyond any signal.
[[nodiscard]] inline bool waits_for_a_disk(pid_t thread) {
    return ublk::test::state_of_thread(thread) == 'D';
}

/// Threads of this process whose names begin so.
[[nodiscard]] inline std::set<pid_t> threads_named(const std::string& prefix) {
    std::set<pid_t> all;
    for (const std::string& name : names_in("/proc/self/task", "")) {
        if (read_line("/proc/self/task/" + name + "/comm").starts_with(prefix)) {
            all.insert(std::stoi(name));
        }
    }
    return all;
}

[[nodiscard]] inline holdings held() {
    holdings all;
    for (const std::string& name : names_in("/proc/self/fd", "")) {
        all.files += name[0] != '.' ? 1u : 0u;
    }
    for (const std::string& name : names_in("/proc/self/task", "")) {
        const std::string command = read_line("/proc/self/task/" + name + "/comm");
        all.threads += name[0] != '.' && !command.starts_with("iou-") ? 1u : 0u;
    }
    const std::string maps = read_text("/proc/self/maps");
    all.mappings = static_cast<std::size_t>(std::count(maps.begin(), maps.end(), '\n'));
    all.resident_kib = status_kib("VmRSS");
    return all;
}

/// Holds nothing that was not held before, or soon will.
[[nodiscard]] inline testing::AssertionResult nothing_more_than(const holdings& before) {
    holdings now;
    const bool same = eventually([&] {
        now = held();
        return now.files <= before.files && now.threads <= before.threads;
    });
    return (same ? testing::AssertionSuccess() : testing::AssertionFailure())
           << "before: " << before << "; after: " << now;
}

/// Every test leaves the machine without a device more than before, however it ends.
class on_a_clean_system : public testing::Test {
protected:
    void SetUp() override {
        if (::access("/dev/ublk-control", F_OK) != 0) {
            GTEST_FAIL() << "no /dev/ublk-control: load ublk_drv";
        }
        devices_before_ = devices();
        held_before_ = held();
    }

    void TearDown() override {
        const bool clean = eventually([this] { return devices() == devices_before_; });
        if (!clean) {
            ADD_FAILURE() << "devices before: " << list(devices_before_)
                          << "; after: " << list(devices());
            delete_leftovers();
        }
        EXPECT_TRUE(nothing_more_than(held_before_));
    }

    /// For tests that leave a dead device on purpose.
    void delete_leftovers() {
        for (const std::string& name : devices()) {
            if (!devices_before_.contains(name) && name.starts_with("ublkc")) {
                const auto id = static_cast<std::uint32_t>(std::stoul(name.substr(5)));
                try {
                    // Not DEL_DEV at once: on a disk that hangs it would hold the driver's global
                    // mutex and take all further tests with it.
                    bounded("removing " + name, [id] {
                        auto commands = open_control();
                        commands.stop_dev(id, patience / 4);
                        commands.del_dev(id);
                    });
                } catch (const std::exception& refused) {
                    ADD_FAILURE() << refused.what();
                }
            }
        }
    }

    [[nodiscard]] const holdings& held_before() const noexcept { return held_before_; }
    [[nodiscard]] const std::set<std::string>& devices_before() const noexcept {
        return devices_before_;
    }

private:
    std::set<std::string> devices_before_;
    holdings held_before_;
};

/// A device whose start, stop and wait are bounded. Should one never return, the device is left to
/// the thread that hangs in it.
template <class Device>
class disk {
public:
    template <class Backend, class... Kernel>
    explicit disk(Backend backend, ublk::options requested, Kernel... running)
        : device_{std::make_shared<Device>(std::move(backend), std::move(requested),
                                           std::move(running)...)} {}
    disk(disk&&) = default;
    disk(const disk&) = delete;
    disk& operator=(disk&&) = delete;

    ~disk() {
        if (device_) {
            try {
                bounded("the destructor", [mine = std::move(device_)]() mutable { mine.reset(); });
            } catch (const std::exception& late) {
                ADD_FAILURE() << late.what();
            }
        }
    }

    void start() {
        bounded("start()", [mine = device_] { mine->start(); });
    }
    void stop() {
        bounded("stop()", [mine = device_] { mine->stop(); });
    }

    [[nodiscard]] Device* operator->() const noexcept { return device_.get(); }
    [[nodiscard]] const std::shared_ptr<Device>& shared() const noexcept { return device_; }

private:
    std::shared_ptr<Device> device_;
};

template <class QueuePolicy = ublk::per_cpu, class BatchPolicy = ublk::per_wakeup, class Backend>
[[nodiscard]] auto make_disk(Backend backend, ublk::options requested) {
    return disk<ublk::device<Backend, QueuePolicy, BatchPolicy>>{std::move(backend),
                                                                 std::move(requested)};
}

template <class QueuePolicy = ublk::per_cpu, class BatchPolicy = ublk::per_wakeup, class Backend>
[[nodiscard]] auto start_disk(Backend backend, ublk::options requested) {
    auto made = make_disk<QueuePolicy, BatchPolicy>(std::move(backend), std::move(requested));
    made.start();
    return made;
}

/// Lets a scan for partitions end that goes on after start (7.x): a backend that hangs from now on
/// hangs with the test's own requests only. The scan has begun when there were reads, and until it
/// has ended nobody can open the disk.
inline void await_partition_scan(const std::string& path) {
    const std::string counted = "/sys/block/" + path.substr(path.rfind('/') + 1) + "/stat";
    EXPECT_TRUE(
        eventually([&] { return std::strtoull(read_line(counted).c_str(), nullptr, 10) != 0; }));
    client probe{path, O_RDONLY};
    EXPECT_EQ(probe.open_error(), 0);
}

/// Options with a deadline that an emulated CPU on a busy machine keeps.
[[nodiscard]] inline ublk::options patient() {
    ublk::options requested;
    requested.command_deadline = long_patience;
    return requested;
}

/// Options that take little memory and time.
[[nodiscard]] inline ublk::options small(unsigned queues = 2) {
    ublk::options requested = patient();
    requested.queues = queues;
    requested.depth = 16;
    requested.max_io_bytes = 128u << 10;
    return requested;
}

[[nodiscard]] inline std::uint32_t number_of(const std::string& text) {
    return static_cast<std::uint32_t>(std::stoul(text));
}

/// The error that `call` throws; throws where there is none.
template <class Call>
[[nodiscard]] ublk::error error_of(Call&& call) {
    try {
        call();
    } catch (const ublk::error& thrown) {
        return thrown;
    }
    throw std::runtime_error{"no error was thrown"};
}

/// A file of zeroes in the guest's memory, gone with the guard.
class scratch {
public:
    explicit scratch(const std::string& name, std::uint64_t bytes)
        : path_{"/tmp/ublk-path-" + std::to_string(::getpid()) + "-" + name} {
        const ublk::fd made{::open(path_.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600)};
        if (!made || ::ftruncate(made.get(), static_cast<off_t>(bytes)) != 0) {
            ADD_FAILURE() << path_ << ": " << ::strerror(errno);
        }
    }
    scratch(const scratch&) = delete;
    scratch& operator=(const scratch&) = delete;
    ~scratch() { (void)::unlink(path_.c_str()); }

    [[nodiscard]] const std::string& path() const noexcept { return path_; }

private:
    std::string path_;
};

// ---------------------------------------------------------------- processes

/// A forked child that runs `body` with a pipe in each direction. It is killed at the end of the
/// test at the latest, and by itself when it takes too long. Nothing of GoogleTest may be used in
/// it: what is wrong it says through the pipe.
class child_process {
public:
    /// What the child has of its parent.
    class link {
    public:
        link(int in, int out) noexcept : in_{in}, out_{out} {}

        /// One line.
        void say(const std::string& text) const {
            const std::string line = text + "\n";
            if (::write(out_, line.data(), line.size()) < 0) {
                ::_exit(98);
            }
        }
        /// Until the parent says something or is gone.
        void listen() const {
            char c = 0;
            (void)!::read(in_, &c, 1);
        }

    private:
        int in_;
        int out_;
    };

    template <class Body>
    explicit child_process(Body body) {
        int down[2];
        int up[2];
        if (::pipe2(down, O_CLOEXEC) != 0 || ::pipe2(up, O_CLOEXEC) != 0) {
            throw std::runtime_error{"no pipe"};
        }
        pid_ = ::fork();
        if (pid_ == 0) {
            ::close(down[1]);
            ::close(up[0]);
            ::alarm(300);
            const link parent{down[0], up[1]};
            try {
                body(parent);
            } catch (const std::exception& thrown) {
                parent.say(std::string{"threw: "} + thrown.what());
                ::_exit(97);
            }
            ::_exit(0);
        }
        ::close(down[0]);
        ::close(up[1]);
        in_ = up[0];
        out_ = down[1];
        if (pid_ < 0) {
            throw std::runtime_error{"cannot fork"};
        }
    }
    child_process(const child_process&) = delete;
    child_process& operator=(const child_process&) = delete;
    ~child_process() {
        kill();
        (void)gone();
        ::close(in_);
        ::close(out_);
    }

    /// The child's next line; "(nothing)" where it ends or says nothing.
    [[nodiscard]] std::string hear(milliseconds limit = patience) {
        std::string line;
        const auto until = std::chrono::steady_clock::now() + limit;
        while (std::chrono::steady_clock::now() < until) {
            pollfd ready{in_, POLLIN, 0};
            if (::poll(&ready, 1, 50) <= 0) {
                continue;
            }
            char c = 0;
            if (::read(in_, &c, 1) != 1) {
                break;
            }
            if (c == '\n') {
                return line;
            }
            line += c;
        }
        return line + "(nothing)";
    }

    void tell() { (void)!::write(out_, "x", 1); }
    void kill() const noexcept {
        if (!status_) {
            ::kill(pid_, SIGKILL);
        }
    }

    /// Whether the child has ended, after waiting for it.
    [[nodiscard]] bool gone(milliseconds limit = patience) {
        return eventually(
            [this] {
                int status = 0;
                if (!status_ && ::waitpid(pid_, &status, WNOHANG) == pid_) {
                    status_ = status;
                }
                return status_.has_value();
            },
            limit);
    }

    /// 0 when the body returned; after `gone`.
    [[nodiscard]] int exit_code() const {
        return !status_              ? -1
               : WIFEXITED(*status_) ? WEXITSTATUS(*status_)
                                     : 128 + WTERMSIG(*status_);
    }
    [[nodiscard]] pid_t pid() const noexcept { return pid_; }

private:
    pid_t pid_ = -1;
    int in_ = -1;
    int out_ = -1;
    std::optional<int> status_;
};

}  // namespace ublk_test
