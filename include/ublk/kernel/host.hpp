// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/cpu_domain.hpp>
#include <ublk/detail/process.hpp>
#include <ublk/kernel/thread_affinity.hpp>
#include <ublk/kernel/thread_scheduling.hpp>
#include <ublk/time_limit.hpp>

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

namespace ublk::inline v0::detail {

using deadline = std::chrono::steady_clock::time_point;

/// What the library asks of the machine beside the driver: threads, and a clock. A simulated kernel
/// brings its own, so that it can decide who runs when and what time it is.
///
/// `thread`, `mutex` and `condition` are used as std::thread, std::mutex and
/// std::condition_variable_any are. `this_process` names the calling process: a forked child has
/// another number, never 0. `enter_queue_thread` prepares the calling thread for serving queues, on
/// those of `cpus` that it may use already; with an empty set it stays where it is, and so it does
/// where it may use none of them, which is answered with false. `use_sched_batch` keeps the calling
/// thread from preempting others when it wakes up, where it may. `neighbours` are the CPUs in the
/// same domain as `cpu`, or as the one where the caller runs; empty where that is not known.
/// `process_alive` is false of a process that has ended, waited for or not.
/// `this_thread_mark` is a word of the calling thread's own, null at first.
template <class H>
concept host = requires(const H& h, const cpu_set& cpus, std::optional<unsigned> cpu, int process) {
    { h.now() } -> std::same_as<deadline>;
    { h.process_id() } -> std::same_as<int>;
    { h.this_process() } -> std::same_as<std::uint64_t>;
    { h.process_alive(process) } -> std::same_as<bool>;
    { h.online_cpus() } -> std::same_as<unsigned>;
    { h.neighbours(cpu, cpu_domain::l3) } -> std::same_as<cpu_set>;
    { h.enter_queue_thread(cpus) }
    noexcept->std::same_as<bool>;
    { h.use_sched_batch() }
    noexcept;
    { H::this_thread_mark() } -> std::same_as<const void*&>;
}
&&requires(typename H::thread thread, typename H::mutex& mutex, typename H::condition& condition,
           deadline until, bool (*test)(), std::stop_token stop) {
    thread.join();
    thread.detach();
    mutex.lock();
    mutex.unlock();
    condition.notify_all();
    { condition.wait_until(mutex, until, test) } -> std::same_as<bool>;
    { condition.wait(mutex, stop, test) } -> std::same_as<bool>;
};

/// This machine.
struct native_host {
    using thread = std::thread;
    using mutex = std::mutex;
    using condition = std::condition_variable_any;

    [[nodiscard]] deadline now() const noexcept { return std::chrono::steady_clock::now(); }
    [[nodiscard]] int process_id() const noexcept { return ::getpid(); }
    [[nodiscard]] std::uint64_t this_process() const noexcept { return detail::this_process(); }
    [[nodiscard]] bool process_alive(int process) const {
        return ublk::detail::process_alive(process);
    }
    [[nodiscard]] unsigned online_cpus() const noexcept { return ublk::detail::online_cpus(); }

    [[nodiscard]] cpu_set neighbours(std::optional<unsigned> cpu, cpu_domain domain) const {
        return neighbours_of(cpu.value_or(static_cast<unsigned>(std::max(0, ::sched_getcpu()))),
                             domain);
    }

    // The program's signal handlers belong to its own threads. Declaring the thread an I/O flusher
    // keeps an allocation in a backend from writing to this very disk to free memory and waiting
    // for itself; it takes CAP_SYS_RESOURCE and is worth trying.
    [[nodiscard]] bool enter_queue_thread(const cpu_set& cpus) const noexcept {
        sigset_t all;
        ::sigfillset(&all);
        for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) {
            ::sigdelset(&all, fault);  // a blocked fault kills without asking the program's handler
        }
        (void)::pthread_sigmask(SIG_BLOCK, &all, nullptr);
        (void)::pthread_setname_np(::pthread_self(), "ublk-queue");
#ifdef PR_SET_IO_FLUSHER
        (void)::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
#endif
        return this_thread_affinity().set(cpus);
    }

    void use_sched_batch() const noexcept {
        take_sched_batch();
    }

    [[nodiscard]] static const void*& this_thread_mark() noexcept {
        static thread_local const void* mark = nullptr;
        return mark;
    }
};

static_assert(host<native_host>);

/// The time on that host when `limit` will have passed; `deadline::max()` where it never does.
template <host H>
[[nodiscard]] deadline from_now(const H& h, time_limit limit) {
    return limit.after(h.now());
}

}  // namespace ublk::inline v0::detail
