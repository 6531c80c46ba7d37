// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backend.hpp>
#include <ublk/batch_policy/per_wakeup.hpp>
#include <ublk/control.hpp>
#include <ublk/crew.hpp>
#include <ublk/features.hpp>
#include <ublk/linux_kernel.hpp>
#include <ublk/options.hpp>
#include <ublk/params.hpp>
#include <ublk/queue_policy/per_cpu.hpp>

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
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
        : backend_{std::make_shared<Backend>(std::move(backend))}, asked_{std::move(asked)},
          kernel_{std::move(kernel)} {}

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
        const std::lock_guard lock{lifecycle_};
        if (session_) {
            fail(EALREADY, "start", info_.id, "the device is started already", "call stop first");
        }
        const disk_attributes disk = attributes_of(*backend_);
        const std::size_t page = kernel_.page_size();
        validate(asked_, page);
        validate(disk, static_cast<std::uint32_t>(page));
        refuse_old_kernel();
        state_ = device_state::starting;
        try {
            open_session(disk, page);
            session_->crew->muster();
            if (!session_->crew->ready(from_now(asked_.command_deadline))) {
                fail(ETIMEDOUT, "starting the queue threads", info_.id,
                     "allocating the tag buffers takes too long",
                     "ask for less depth, fewer queues or a smaller max_io_bytes");
            }
            session_->control.start_dev(info_.id, ::getpid());
            publish();
        } catch (...) {
            give_up();
            throw;
        }
    }

    /// Removes the disk and the device: writes dirty pages back through the backend, lets requests
    /// in flight finish, ends the threads. Does nothing on a device that is not started. Throws
    /// `error` where something did not end within its deadline; after `options::stop_deadline` the
    /// requests that are left fail with EIO. With a backend that never returns its thread is left
    /// behind.
    void stop() {
        const std::lock_guard lock{lifecycle_};
        if (!session_) {
            return;
        }
        if (session_->crew->includes(std::this_thread::get_id())) {
            fail(EDEADLK, "stop", info_.id, "called from a queue thread, which stop waits for",
                 "signal another thread to call it");
        }
        state_ = device_state::stopping;
        std::exception_ptr first;
        const auto attempt = [&first](auto&& step) {
            try {
                step();
            } catch (...) {
                first = first ? first : std::current_exception();
            }
        };
        attempt([this] { stop_serving(); });
        attempt([this] { session_->control.del_dev(info_.id); });
        close_session();
        if (first) {
            std::rethrow_exception(first);
        }
    }

    /// Waits until the device is stopped by another thread, ends by itself, or `token` is
    /// triggered; stops it in the last two cases. Throws `error` where the queue threads failed,
    /// and as `stop` does.
    void wait(const std::stop_token& token = {}) {
        const std::shared_ptr<crew_type> threads = current_crew();
        if (!threads) {
            return;
        }
        threads->gone(token);
        stop();
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
            const std::shared_ptr<crew_type> threads = current_crew();
            if (threads && threads->gone(std::chrono::steady_clock::time_point{})) {
                return device_state::failed;
            }
        }
        return now;
    }

    /// The queue threads use it at the same time.
    [[nodiscard]] Backend& backend() noexcept { return *backend_; }
    [[nodiscard]] const Backend& backend() const noexcept { return *backend_; }

private:
    using crew_type = crew<Backend, QueuePolicy, BatchPolicy, Kernel>;

    /// What exists between start and stop.
    struct session {
        ublk::control<Kernel> control;
        bool added = false;
        std::shared_ptr<crew_type> crew{};
    };

    [[nodiscard]] static deadline from_now(std::chrono::milliseconds limit) {
        return std::chrono::steady_clock::now() + limit;
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

    void open_session(const disk_attributes& disk, std::size_t page) {
        session_.emplace(session{ublk::control<Kernel>{kernel_, asked_.command_deadline}});
        ublk::control<Kernel>& control = session_->control;
        const std::uint64_t known = control.get_features();
        add(control, known);
        control.set_params(info_.id, to_params(disk, info_.max_io_bytes));
        std::vector<cpu_set> affinity;
        for (unsigned q = 0; QueuePolicy::pinned && q < info_.queues; ++q) {
            affinity.push_back(
                control.get_queue_affinity(info_.id, queue_id{static_cast<std::uint16_t>(q)}));
        }
        auto channel = kernel_.open_channel(info_.id, from_now(asked_.command_deadline));
        session_->crew = std::make_shared<crew_type>(
            backend_, std::move(channel),
            typename crew_type::plan{info_, page, asked_.buffer_pages, asked_.lock_buffers,
                                     std::move(affinity)});
        info_.threads = static_cast<unsigned>(session_->crew->size());
    }

    void add(ublk::control<Kernel>& control, std::uint64_t known) {
        uapi::dev_info ask;
        ask.dev_id = asked_.id.value_or(uapi::any_dev_id);
        ask.nr_hw_queues =
            static_cast<std::uint16_t>(asked_.queues != 0 ? asked_.queues : online_cpus());
        ask.queue_depth = static_cast<std::uint16_t>(asked_.depth);
        ask.max_io_buf_bytes = asked_.max_io_bytes;
        ask.flags = asked_.partition_scan ? 0 : uapi::feature::no_auto_part_scan;
        if ((ask.flags & ~known) != 0) {
            fail(EOPNOTSUPP, "ADD_DEV", asked_.id, "the driver cannot leave partitions alone",
                 "use Linux 7.0 or newer, or options::partition_scan = true");
        }
        const uapi::dev_info granted = control.add_dev(ask);
        session_->added = true;
        info_ = device_info{};
        info_.id = granted.dev_id;
        info_.queues = granted.nr_hw_queues;
        info_.depth = granted.queue_depth;
        info_.max_io_bytes = granted.max_io_buf_bytes;
        info_.flags = granted.flags;
        info_.driver_features = known;
        // Drivers before 7.3 leave this field as we sent it: zero.
        const bool spaced = (granted.flags & uapi::feature::io_desc_size) != 0;
        info_.io_desc_size = spaced ? granted.io_desc_size : sizeof(uapi::io_desc);
        check_granted(ask, granted);
    }

    // The driver drops flags in silence, and a thread has only so much room for events.
    void check_granted(const uapi::dev_info& ask, const uapi::dev_info& granted) const {
        if (const std::uint64_t dropped = ask.flags & ~granted.flags; dropped != 0) {
            fail(EOPNOTSUPP, "ADD_DEV", granted.dev_id,
                 "the driver did not grant " + describe(dropped), "do without");
        }
        constexpr unsigned tags_a_thread_max =
            32768;  // half of io_uring's largest completion queue
        const unsigned queues = QueuePolicy::one_queue_a_thread ? 1u : granted.nr_hw_queues;
        if (queues * unsigned{granted.queue_depth} > tags_a_thread_max) {
            fail(EINVAL, "ADD_DEV", granted.dev_id,
                 "one thread would serve " + std::to_string(queues * granted.queue_depth) +
                     " requests at once",
                 "ask for queues x depth <= 32768, or use ublk::per_cpu");
        }
    }

    void publish() {
        info_.ring_flags = session_->crew->ring_flags();
        const std::lock_guard lock{published_};
        shown_ = info_;
        crew_ = session_->crew;
        started_once_ = true;
        state_ = device_state::live;
    }

    // STOP first and join then: the driver writes dirty pages back through our threads.
    void stop_serving() {
        crew_type& threads = *session_->crew;
        const control_ticket ticket = session_->control.begin_stop(info_.id);
        const bool clean = session_->control.finish_stop(ticket, info_.id, asked_.stop_deadline) &&
                           threads.gone(from_now(asked_.command_deadline));
        if (clean) {
            return;
        }
        dismiss_threads();
        (void)session_->control.finish_stop(ticket, info_.id, asked_.command_deadline);
        fail(ETIMEDOUT, "STOP_DEV", info_.id,
             "the backend did not answer all requests within options::stop_deadline",
             "the disk was removed by force and the requests that were left failed with EIO");
    }

    void dismiss_threads() {
        crew_type& threads = *session_->crew;
        threads.dismiss();
        if (!threads.gone(from_now(asked_.command_deadline))) {
            threads.abandon();
            fail(ETIMEDOUT, "ending the queue threads", info_.id,
                 "a backend function has not returned",
                 "end the process; the device stays until then");
        }
    }

    // Nothing of a start that failed stays, and what went wrong in cleaning up must not hide why.
    void give_up() noexcept {
        try {
            if (session_ && session_->crew) {
                dismiss_threads();
            }
        } catch (...) {
        }
        try {
            if (session_ && session_->crew) {
                session_->crew->disband();
            }
            if (session_ && session_->added) {
                session_->control.del_dev(info_.id);
            }
        } catch (...) {
        }
        close_session();
    }

    void close_session() noexcept {
        if (session_ && session_->crew) {
            session_->crew->disband();
        }
        const std::lock_guard lock{published_};
        crew_.reset();
        session_.reset();
        state_ = device_state::idle;
    }

    [[nodiscard]] std::shared_ptr<crew_type> current_crew() const {
        const std::lock_guard lock{published_};
        return crew_;
    }

    [[nodiscard]] std::string node(const char* prefix) const {
        const std::lock_guard lock{published_};
        return started_once_ ? prefix + std::to_string(shown_.id) : std::string{};
    }

    std::shared_ptr<Backend> backend_;
    options asked_;
    Kernel kernel_;

    std::mutex lifecycle_;  ///< start and stop, one at a time
    std::optional<session> session_;
    device_info info_;
    std::atomic<device_state> state_ = device_state::idle;

    mutable std::mutex published_;  ///< what other threads may ask for meanwhile
    std::shared_ptr<crew_type> crew_;
    device_info shown_;
    bool started_once_ = false;
};

}  // namespace ublk::inline v0
