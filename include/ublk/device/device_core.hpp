// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/device/device_ops.hpp>
#include <ublk/device/thread_set_handle.hpp>
#include <ublk/event.hpp>
#include <ublk/kernel/process_owner.hpp>
#include <ublk/options.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace ublk::inline v0::detail {

template <class Kernel>
class device_lifecycle;
template <class Kernel>
class event_log;
template <class Kernel>
class queue_threads;

/// All of a `device` but its types: what they decide is in `device_ops`. Its public functions are
/// documented there, and defined in device_core_impl.hpp, which can be compiled apart.
template <class Kernel>
class device_core {
public:
    using records = std::vector<std::shared_ptr<void>>;

    device_core(device_ops<Kernel> ops, thread_set_handle set, options requested, Kernel kernel);
    device_core(const device_core&) = delete;
    device_core& operator=(const device_core&) = delete;
    ~device_core();

    void start();
    void recover(std::uint32_t id);
    void stop();
    void wait(const std::stop_token& token);

    /// "" before the first start.
    [[nodiscard]] std::string node(const char* prefix) const;
    [[nodiscard]] device_info info() const;
    [[nodiscard]] device_state state() const;

    /// In a child that was forked meanwhile none: a thread that is not there may hold the lock.
    [[nodiscard]] std::vector<event> events() const;

    /// What the measuring policy has written down since the last start.
    [[nodiscard]] records counted() const;

private:
    /// What a forked child must not end: it stays as it is.
    struct remains;

    void leave_to_parent() noexcept;
    void refuse_child(const char* call) const;
    void refuse_queue_thread(const char* call) const;

    /// `only`: no other threads than these, which may have been stopped and followed by others
    /// since the caller looked. Null: whichever there are.
    void stop(const queue_threads<Kernel>* only);

    /// `open(lifecycle, disk)` has the device served, or throws.
    template <class Open>
    void begin(const char* call, Open open);

    // With `start_stop_` held:
    template <class Open>
    void open_locked(const char* call, Open open);

    /// Leaves a disk to its next server, where its threads have ended by themselves and it has
    /// recovery. False where that is not so.
    [[nodiscard]] bool leave(const queue_threads<Kernel>* only);

    /// Waits until those threads are gone or `token` is triggered, and ends that life. True where
    /// the device is served by others then.
    bool end_of(queue_threads<Kernel>& threads, const std::stop_token& token);

    [[nodiscard]] bool can_recover_itself() const;

    void publish();

    /// The threads are gone; what was granted and counted stays.
    void retire() noexcept;

    [[nodiscard]] std::shared_ptr<queue_threads<Kernel>> current_threads() const;

    /// In a child that was forked meanwhile nobody else changes anything, and the lock may be held
    /// by a thread that is not there.
    [[nodiscard]] std::unique_lock<typename Kernel::mutex> look() const;

    [[nodiscard]] bool in_child() const noexcept { return owner_.elsewhere(kernel_); }

    device_ops<Kernel> ops_;
    thread_set_handle set_;
    std::shared_ptr<event_log<Kernel>> log_;
    options requested_;
    Kernel kernel_;

    typename Kernel::mutex start_stop_;  ///< one at a time
    std::unique_ptr<device_lifecycle<Kernel>> lifecycle_;
    process_owner owner_;  ///< nobody while it is not started
    std::atomic<device_state> state_ = device_state::idle;
    std::atomic<bool> may_recover_itself_ = false;  ///< once after each start

    // What any thread may ask while another one starts or stops the device.
    mutable typename Kernel::mutex view_;
    std::shared_ptr<queue_threads<Kernel>> threads_;
    records records_;
    device_info info_;
    bool started_once_ = false;
};

}  // namespace ublk::inline v0::detail
