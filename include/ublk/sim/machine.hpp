// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/kernel_version.hpp>
#include <ublk/sim/journal.hpp>
#include <ublk/sim/random.hpp>
#include <ublk/sim/scheduler.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ublk::inline v0::sim {

class driver_device;

/// How often something goes wrong that a server must live with: one time in so many, 0 for never.
struct troubles {
    std::uint32_t interrupted = 0;   ///< io_uring_enter: EINTR
    std::uint32_t try_again = 0;     ///< io_uring_enter: EAGAIN, a passing shortage of memory
    std::uint32_t reap_first = 0;    ///< io_uring_enter: EBUSY, the completion queue has overflowed
    std::uint32_t short_submit = 0;  ///< io_uring_enter takes only some of what is queued
    std::uint32_t idle_return = 0;   ///< io_uring_enter returns without an event

    // Of backends' operations.
    std::uint32_t short_transfer = 0;   ///< fewer bytes than asked for, but some
    std::uint32_t operation_again = 0;  ///< of a file: EINTR or EAGAIN, without effect
    std::uint32_t operation_fails = 0;  ///< EIO or ENOSPC: which clients then get

    std::uint32_t unregistered = 0;  ///< the driver fails to register a request's pages by itself
};

/// What becomes of the call into the kernel with that number, counted from 1.
struct mishap {
    std::uint64_t step = 0;   ///< 0: none
    int code = 0;             ///< the errno with which it fails; 0: the server dies there
    std::uint32_t times = 1;  ///< how many calls in a row
};

/// What the simulated machine is like.
struct conditions {
    std::uint64_t seed = 1;
    kernel_version version{7, 3};
    unsigned cpus = 4;
    bool root = true;   ///< the server has CAP_SYS_ADMIN
    bool zoned = true;  ///< CONFIG_BLK_DEV_ZONED
    unsigned unprivileged_max = 64;
    std::uint64_t lockable_bytes = ~std::uint64_t{0};  ///< that a process may pin
    std::uint32_t transfer_unit = 1;                   ///< short transfers end at a multiple of it
    unsigned completions = 0;    ///< room in a completion queue; 0: what the server asks for
    std::uint32_t switches = 4;  ///< other threads may go first at one call in so many; 0: never
    bool strict = true;          ///< what a server must not do counts as a violation
    troubles often{};
    mishap once{};
    journal* book = nullptr;  ///< what is to be written down, if anything
    std::string replay{};     ///< the command that makes this very world; printed with a violation
};

/// Seed from the environment (UBLK_SIM_SEED), else the one given: how a failure is replayed.
[[nodiscard]] inline std::uint64_t seed_or(std::uint64_t otherwise) {
    const char* const set = std::getenv("UBLK_SIM_SEED");
    return set == nullptr ? otherwise : std::strtoull(set, nullptr, 0);
}

/// What all parts of the simulated kernel share: dice, clock, tasks, and the list of violations.
class machine {
public:
    explicit machine(const conditions& given) : is{given}, dice{given.seed}, tasks{dice} {
        here() = this;
    }
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;
    ~machine() {
        here() = nullptr;
        if (!violations_.empty()) {
            std::fprintf(stderr, "ublk sim: %zu violations that nobody asked for, see above\n",
                         violations_.size());
            if (std::uncaught_exceptions() == 0) {  // else somebody will hear of that
                std::abort();
            }
        }
    }

    /// The one of the calling thread, or null.
    [[nodiscard]] static machine*& here() noexcept {
        static thread_local machine* mine = nullptr;
        return mine;
    }

    [[nodiscard]] bool since(unsigned major, unsigned minor) const noexcept {
        return !(is.version < kernel_version{major, minor});
    }

    /// Whether that stable series has what came to it with that patch level.
    [[nodiscard]] bool backported(const kernel_version& to) const noexcept {
        return is.version.major == to.major && is.version.minor == to.minor &&
               is.version.patch >= to.patch;
    }

    /// A call into the kernel: time passes, somebody else may go first, and this may be the one
    /// that fails. Returns 0, -errno, or `dies_here`.
    [[nodiscard]] int step(std::string_view call) {
        const std::uint64_t mine = ++steps;  // others may call before this one goes on
        tasks.pass(std::chrono::microseconds{1});
        if (dice.chance(is.switches)) {
            tasks.yield();
        }
        if (std::exchange(overdue_, false)) {
            hit = call;
            return dies_here;
        }
        const bool chosen =
            is.once.step != 0 && mine >= is.once.step && mine < is.once.step + is.once.times;
        if (!chosen) {
            return 0;
        }
        hit = call;
        return is.once.code == 0 ? dies_here : -is.once.code;
    }
    static constexpr int dies_here = 1;

    /// For a call that cannot tell whose it is: the next one dies instead.
    void die_later() noexcept { overdue_ = true; }

    /// Somebody did what he must not. Said at once, with what replays it.
    [[gnu::cold]] void violation(std::string text) {
        if (!is.strict) {
            return;
        }
        if (violations_.size() < shown) {
            std::fprintf(stderr, "ublk sim: violation: %s\n    at call %llu of seed %llu%s%s\n",
                         text.c_str(), static_cast<unsigned long long>(steps),
                         static_cast<unsigned long long>(is.seed),
                         is.replay.empty() ? "" : "; replay: ", is.replay.c_str());
        }
        violations_.push_back(std::move(text));
    }

    [[nodiscard]] std::vector<std::string> take_violations() {
        return std::exchange(violations_, {});
    }
    [[nodiscard]] bool blameless() const noexcept { return violations_.empty(); }

    /// A delay of the kernel's own, which nobody can rely on.
    [[nodiscard]] std::chrono::nanoseconds some_time() {
        return std::chrono::microseconds{dice.below(dice.chance(8) ? 2000 : 20)};
    }

    conditions is;
    random dice;
    scheduler tasks;
    std::uint64_t steps = 0;  ///< calls into the kernel so far
    std::string_view hit;     ///< the last one that `conditions::once` chose
    bool killed = false;      ///< a process was

    /// Operations of a backend: how many of one request it says that it has in flight, and how many
    /// it was seen to have at least; 0 where none were.
    struct operation_counts {
        std::size_t declared = 0;
        std::size_t seen = 0;
    };
    operation_counts operations{};

    wait_list peers{};  ///< of backends, that wait for their streams

    /// The device of which that is the open /dev/ublkcN; null for any other file.
    std::function<std::shared_ptr<driver_device>(int file)> device_of_file;

private:
    static constexpr std::size_t shown = 3;  // what follows a violation is seldom news

    std::vector<std::string> violations_;
    bool overdue_ = false;
};

}  // namespace ublk::inline v0::sim
