// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backend.hpp>
#include <ublk/batch_policy/per_wakeup.hpp>
#include <ublk/kernel_version.hpp>
#include <ublk/linux_kernel.hpp>
#include <ublk/measuring.hpp>
#include <ublk/options.hpp>
#include <ublk/params.hpp>
#include <ublk/queue_policy/per_cpu.hpp>
#include <ublk/service.hpp>
#include <ublk/session.hpp>
#include <ublk/set_handle.hpp>

#include <atomic>
#include <concepts>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// A block device, /dev/ublkbN, that this process serves.
///
/// `Backend` is what it stores (see backend.hpp), `QueuePolicy` which thread serves what,
/// `BatchPolicy` when completions go back to the kernel. `Kernel` is the real one by default.
///
/// All members may be called from any thread but the queue threads (that is, not from the backend).
/// The device is removed by `stop` or the destructor; a process that is killed leaves a dead
/// /dev/ublkcN behind, without a disk.
template <class Backend, class QueuePolicy = per_cpu, class BatchPolicy = per_wakeup,
          class Kernel = linux_kernel>
class device {
    static_assert(check_backend<Backend>());

public:
    /// Nothing happens yet.
    explicit device(Backend backend, options asked = {}, Kernel kernel = {})
        : device{std::make_shared<Backend>(std::move(backend)), std::move(asked),
                 std::move(kernel)} {}

    /// The same with a backend that others refer to as well, or that cannot be moved.
    explicit device(std::shared_ptr<Backend> backend, options asked = {}, Kernel kernel = {})
        : backend_{std::move(backend)}, asked_{std::move(asked)}, kernel_{std::move(kernel)} {
        static_assert(!on_thread_set<QueuePolicy>,
                      "ublk: a device with the queue policy pooled is made with a thread set: "
                      "ublk::thread_set threads; device{backend, threads}");
        UBLK_ASSERT(backend_ != nullptr, "a device has a backend");
    }

    /// The same on the threads of a `thread_set`, with the queue policy `pooled`.
    template <class Set>
        requires requires(const Set& set) {
            { set.handle() } -> std::same_as<set_handle>;
        }
    device(Backend backend, const Set& threads, options asked = {}, Kernel kernel = {})
        : device{std::make_shared<Backend>(std::move(backend)), threads, std::move(asked),
                 std::move(kernel)} {}
    template <class Set>
        requires requires(const Set& set) {
            { set.handle() } -> std::same_as<set_handle>;
        }
    device(std::shared_ptr<Backend> backend, const Set& threads, options asked = {},
           Kernel kernel = {})
        : backend_{std::move(backend)}, set_{threads.handle()}, asked_{std::move(asked)},
          kernel_{std::move(kernel)} {
        static_assert(on_thread_set<QueuePolicy>,
                      "ublk: a device on a thread set has the queue policy ublk::pooled");
        UBLK_ASSERT(backend_ != nullptr, "a device has a backend");
    }

    device(const device&) = delete;
    device& operator=(const device&) = delete;

    /// Stops the device as `stop` does; what goes wrong then has nobody to hear of it.
    ~device() {
        try {
            stop();
        } catch (...) {
        }
    }

    /// Adds, configures and starts the device; when this returns /dev/ublkbN is usable. Throws
    /// `error` and leaves nothing behind where that fails, each step within
    /// `options::command_deadline`.
    void start() {
        refuse_queue_thread("start");
        const std::lock_guard lock{lifecycle_};
        if (session_) {
            fail(EALREADY, "start", session_->info().id, "the device is started already",
                 "call stop first");
        }
        const disk_attributes disk = attributes_of(*backend_);
        validate(asked_, kernel_.page_size());
        validate(disk, static_cast<std::uint32_t>(kernel_.page_size()));
        refuse_old_kernel();
        state_ = device_state::starting;
        try {
            session_.emplace(kernel_, asked_, set_);
            auto duty = service_of<Backend, QueuePolicy, BatchPolicy, Kernel>(backend_);
            if constexpr (on_thread_set<QueuePolicy>) {
                duty.join_set = crew<Kernel>::join_set;
            }
            session_->open(std::move(duty), disk);
            publish();
        } catch (...) {
            if (session_) {
                session_->give_up();
            }
            retire();
            throw;
        }
    }

    /// Removes the disk and the device: writes dirty pages back through the backend, lets requests
    /// in flight finish, ends the threads. Does nothing on a device that is not started. Throws
    /// `error` where something did not end within its deadline; after `options::stop_deadline` the
    /// requests that are left fail with EIO. With a backend that never returns its thread is left
    /// behind, and the thread that called stop cannot end before the backend returns.
    ///
    /// A process that gets SIGKILL meanwhile, while it owns a request, does not die: the kernel
    /// (6.12, 7.3) waits in its exit for STOP_DEV, which waits for the request.
    void stop() {
        refuse_queue_thread("stop");
        stop(nullptr);
    }

    /// Waits until the device is stopped by another thread, ends by itself, or `token` is
    /// triggered; stops it in the last two cases. Throws `error` where the queue threads failed,
    /// and as `stop` does.
    void wait(const std::stop_token& token = {}) {
        refuse_queue_thread("wait");
        const std::shared_ptr<crew<Kernel>> threads = current_crew();
        if (!threads) {
            return;
        }
        threads->gone(token);
        stop(threads.get());
        if (const int code = threads->failure(); code != 0) {
            fail(code, "serving", info().id, "the driver or the ring refused a queue thread",
                 "see dmesg; the device is removed and can be started again");
        }
    }

    /// "/dev/ublkbN"; empty before the first start.
    [[nodiscard]] std::string path() const { return node("/dev/ublkb"); }

    /// "/dev/ublkcN"; empty before the first start.
    [[nodiscard]] std::string char_path() const { return node("/dev/ublkc"); }

    /// N, as granted by the last start.
    [[nodiscard]] std::uint32_t id() const { return info().id; }

    /// What the last start was granted.
    [[nodiscard]] device_info info() const {
        const std::lock_guard lock{published_};
        return shown_;
    }

    [[nodiscard]] device_state state() const {
        const device_state now = state_;
        if (now == device_state::live) {
            const std::shared_ptr<crew<Kernel>> threads = current_crew();
            if (threads && threads->gone(deadline{})) {
                return device_state::failed;
            }
        }
        return now;
    }

    /// What is counted since the last start that succeeded, which stays after the stop; empty
    /// before the first. No request waits for it.
    template <class Measuring = measuring_of<QueuePolicy>>
    [[nodiscard]] auto stats() const {
        static_assert(!std::is_same_v<Measuring, no_stats>,
                      "ublk: this device counts nothing: take ublk::with<ublk::per_cpu, "
                      "ublk::stats> as its queue policy, or another one in place of per_cpu");
        return Measuring::read(current_records());
    }

    /// The queue threads use it at the same time.
    [[nodiscard]] Backend& backend() noexcept { return *backend_; }
    [[nodiscard]] const Backend& backend() const noexcept { return *backend_; }

private:
    void refuse_queue_thread(const char* what) const {
        if (crew<Kernel>::serves_here(backend_.get(), set_)) {
            fail(EDEADLK, what, std::nullopt,
                 "called from the backend, on a thread that it would wait for",
                 "let another thread call it");
        }
    }

    void refuse_old_kernel() const {
        const kernel_version running = kernel_.version();
        if (running < oldest_kernel) {
            fail(EOPNOTSUPP, "start", std::nullopt,
                 "Linux " + running.text() + " is older than " + oldest_kernel.text() +
                     ", the oldest that this library is made for",
                 "use Linux " + oldest_kernel.text() + " or newer");
        }
    }

    /// `only`: no other crew than that one, which may have been stopped and followed by another
    /// since the caller looked. Null: whichever there is.
    void stop(const crew<Kernel>* only) {
        const std::lock_guard lock{lifecycle_};
        if (!session_ || (only != nullptr && session_->threads().get() != only)) {
            return;
        }
        state_ = device_state::stopping;
        try {
            session_->close();
        } catch (...) {
            retire();
            throw;
        }
        retire();
    }

    void publish() {
        const std::lock_guard lock{published_};
        shown_ = session_->info();
        crew_ = session_->threads();
        records_ = crew_->records();
        started_once_ = true;
        state_ = device_state::live;
    }

    void retire() noexcept {
        const std::lock_guard lock{published_};
        crew_.reset();
        session_.reset();
        state_ = device_state::idle;
    }

    [[nodiscard]] std::shared_ptr<crew<Kernel>> current_crew() const {
        const std::lock_guard lock{published_};
        return crew_;
    }

    [[nodiscard]] std::vector<std::shared_ptr<void>> current_records() const {
        const std::lock_guard lock{published_};
        return records_;
    }

    [[nodiscard]] std::string node(const char* prefix) const {
        const std::lock_guard lock{published_};
        return started_once_ ? prefix + std::to_string(shown_.id) : std::string{};
    }

    std::shared_ptr<Backend> backend_;
    set_handle set_{};
    options asked_;
    Kernel kernel_;

    typename Kernel::mutex lifecycle_;  ///< start and stop, one at a time
    std::optional<session<Kernel>> session_;
    std::atomic<device_state> state_ = device_state::idle;

    mutable typename Kernel::mutex published_;  ///< what other threads may ask for meanwhile
    std::shared_ptr<crew<Kernel>> crew_;
    std::vector<std::shared_ptr<void>> records_;  ///< of what the device counts
    device_info shown_;
    bool started_once_ = false;
};

}  // namespace ublk::inline v0
