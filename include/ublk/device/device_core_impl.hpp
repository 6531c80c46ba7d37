// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/abandoned.hpp>
#include <ublk/device/device_core.hpp>
#include <ublk/device/device_lifecycle.hpp>
#include <ublk/device/event_log.hpp>
#include <ublk/device/queue_threads.hpp>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

// Which functions of a device do not depend on its types.
namespace ublk::inline v0::detail {

template <class Kernel>
struct device_core<Kernel>::remains : abandoned {
    std::unique_ptr<device_lifecycle<Kernel>> lifecycle;
    std::shared_ptr<queue_threads<Kernel>> threads;
};

template <class Kernel>
device_core<Kernel>::device_core(device_ops<Kernel> ops, thread_set_handle set, options requested,
                                 Kernel kernel)
    : ops_{std::move(ops)}, set_{std::move(set)}, log_{std::make_shared<event_log<Kernel>>()},
      requested_{std::move(requested)}, kernel_{std::move(kernel)} {
    requested_.on_event = [log = log_, to = std::move(requested_.on_event)](const event& e) {
        log->add(e);
        if (to) {
            to(e);
        }
    };
}

template <class Kernel>
device_core<Kernel>::~device_core() {
    if (in_child()) {
        leave_to_parent();
        return;
    }
    try {
        stop();
    } catch (...) {
    }
}

template <class Kernel>
void device_core<Kernel>::start() {
    begin("start", [this](device_lifecycle<Kernel>& life, const disk_attributes& disk) {
        life.open(ops_, disk);
    });
}

template <class Kernel>
void device_core<Kernel>::recover(std::uint32_t id) {
    begin("recover", [this, id](device_lifecycle<Kernel>& life, const disk_attributes& disk) {
        life.recover(ops_, disk, id);
    });
}

template <class Kernel>
template <class Open>
void device_core<Kernel>::begin(const char* call, Open open) {
    refuse_child(call);
    refuse_queue_thread(call);
    const std::lock_guard lock{start_stop_};
    open_locked(call, open);
    may_recover_itself_ = true;
}

template <class Kernel>
template <class Open>
void device_core<Kernel>::open_locked(const char* call, Open open) {
    if (lifecycle_) {
        fail(EALREADY, call, lifecycle_->info().id, "the device is started already",
             "call stop first");
    }
    const disk_attributes disk = ops_.attributes(ops_.backend.get());
    validate(requested_, kernel_.page_size());
    validate(disk, static_cast<std::uint32_t>(kernel_.page_size()));
    demand_recent_kernel(kernel_.version());
    state_ = device_state::starting;
    try {
        owner_.claim(kernel_.this_process());
        lifecycle_ = std::make_unique<device_lifecycle<Kernel>>(kernel_, requested_, set_);
        open(*lifecycle_, disk);
        publish();
        state_ = device_state::live;
    } catch (...) {
        if (lifecycle_) {
            lifecycle_->give_up();
        }
        retire();
        throw;
    }
}

template <class Kernel>
void device_core<Kernel>::stop() {
    refuse_child("stop");
    refuse_queue_thread("stop");
    stop(nullptr);
}

template <class Kernel>
void device_core<Kernel>::wait(const std::stop_token& token) {
    refuse_child("wait");
    refuse_queue_thread("wait");
    for (bool again = true; again;) {
        const std::shared_ptr<queue_threads<Kernel>> threads = current_threads();
        again = threads && end_of(*threads, token);
    }
}

template <class Kernel>
bool device_core<Kernel>::end_of(queue_threads<Kernel>& threads, const std::stop_token& token) {
    threads.gone(token);
    const int code = threads.failure();
    bool left = false;
    bool recovered = false;
    {
        const std::lock_guard lock{start_stop_};
        left = leave(&threads);
        recovered =
            left && code != 0 && can_recover_itself() && may_recover_itself_.exchange(false);
        if (recovered) {
            open_locked("wait",
                        [this](device_lifecycle<Kernel>& life, const disk_attributes& disk) {
                            life.recover(ops_, disk, info().id);
                        });
        }
    }
    if (recovered) {
        requested_.on_event({event::kind::recovered, info().id,
                             "a queue thread has failed, and the disk is served anew: " +
                                 std::generic_category().message(-code)});
        return true;
    }
    if (!left) {
        stop(&threads);
    }
    if (code != 0 && !left && current_threads() != nullptr) {
        return true;  // another waiter had it recovered
    }
    if (code != 0) {
        fail(code, "serving", info().id, "the driver or the ring refused a queue thread",
             left ? "see dmesg; the disk waits for a next server: recover it"
                  : "see dmesg; the device is removed and can be started again");
    }
    return false;
}

// Before Linux 6.16 the driver takes it that the threads of the last server have ended, which those
// of a set have not.
template <class Kernel>
bool device_core<Kernel>::can_recover_itself() const {
    return !set_ || (info().driver_features & uapi::feature::per_io_daemon) != 0;
}

template <class Kernel>
std::string device_core<Kernel>::node(const char* prefix) const {
    const auto lock = look();
    return started_once_ ? prefix + std::to_string(info_.id) : std::string{};
}

template <class Kernel>
device_info device_core<Kernel>::info() const {
    const auto lock = look();
    return info_;
}

template <class Kernel>
device_state device_core<Kernel>::state() const {
    if (in_child()) {
        return device_state::of_parent;
    }
    const device_state now = state_;
    if (now == device_state::live) {
        const std::shared_ptr<queue_threads<Kernel>> threads = current_threads();
        if (threads && threads->gone(deadline{})) {
            return device_state::failed;
        }
    }
    return now;
}

template <class Kernel>
std::vector<event> device_core<Kernel>::events() const {
    return in_child() ? std::vector<event>{} : log_->all();
}

template <class Kernel>
typename device_core<Kernel>::records device_core<Kernel>::counted() const {
    const auto lock = look();
    return records_;
}

template <class Kernel>
void device_core<Kernel>::leave_to_parent() noexcept {
    auto* const all = new remains;
    all->lifecycle = std::move(lifecycle_);
    all->threads = std::move(threads_);
    detail::abandon(all);
}

template <class Kernel>
void device_core<Kernel>::refuse_child(const char* call) const {
    owner_.demand(kernel_, call);
    if (set_) {
        set_.owner->demand(kernel_, call);
    }
}

template <class Kernel>
void device_core<Kernel>::refuse_queue_thread(const char* call) const {
    if (serves_here<Kernel>(ops_.backend.get(), set_)) {
        fail(EDEADLK, call, std::nullopt,
             "called from the backend, on a thread that it would wait for",
             "let another thread call it");
    }
}

template <class Kernel>
void device_core<Kernel>::stop(const queue_threads<Kernel>* only) {
    const std::lock_guard lock{start_stop_};
    if (!lifecycle_ || (only != nullptr && lifecycle_->threads().get() != only)) {
        return;
    }
    state_ = device_state::stopping;
    try {
        lifecycle_->close();
    } catch (...) {
        retire();
        throw;
    }
    retire();
}

template <class Kernel>
bool device_core<Kernel>::leave(const queue_threads<Kernel>* only) {
    if (!lifecycle_ || lifecycle_->threads().get() != only || !lifecycle_->outlives_server()) {
        return false;
    }
    state_ = device_state::stopping;
    try {
        lifecycle_->leave();
    } catch (...) {
        retire();
        throw;
    }
    retire();
    return true;
}

template <class Kernel>
void device_core<Kernel>::publish() {
    const std::lock_guard lock{view_};
    info_ = lifecycle_->info();
    threads_ = lifecycle_->threads();
    records_ = threads_->records();
    started_once_ = true;
}

template <class Kernel>
void device_core<Kernel>::retire() noexcept {
    {
        const std::lock_guard lock{view_};
        threads_.reset();
    }
    lifecycle_.reset();
    state_ = device_state::idle;
    owner_.release();
}

template <class Kernel>
std::shared_ptr<queue_threads<Kernel>> device_core<Kernel>::current_threads() const {
    const auto lock = look();
    return threads_;
}

template <class Kernel>
std::unique_lock<typename Kernel::mutex> device_core<Kernel>::look() const {
    using lock = std::unique_lock<typename Kernel::mutex>;
    return in_child() ? lock{} : lock{view_};
}

}  // namespace ublk::inline v0::detail
