// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/control/control_commands.hpp>
#include <ublk/detail/fixed_array.hpp>
#include <ublk/device/device_adder.hpp>
#include <ublk/device/device_ops.hpp>
#include <ublk/device/device_shutdown.hpp>
#include <ublk/device/queue_threads.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/options.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// One life of a device, from ADD_DEV to DEL_DEV: the control commands in their order, and what to
/// undo when one of them fails.
template <class Kernel>
class session {
public:
    /// Opens the control device. Throws `error`. Both outlive the session.
    session(const Kernel& running, const options& asked, const set_handle& set)
        : kernel_{running}, asked_{asked}, set_{set}, control_{running, asked.command_deadline} {}

    session(const session&) = delete;
    session& operator=(const session&) = delete;
    ~session() {
        if (crew_) {
            crew_->disband();
        }
    }

    /// Adds, configures and starts the device; a second time, in another way, where the kernel
    /// refuses the first at run time. Throws `error`; `give_up` then cleans up.
    void open(const service<Kernel>& duty, const disk_attributes& disk) {
        detail::check_policy_options(asked_, duty);
        const std::uint64_t known = control_.get_features();
        for (refused_ways refused;;) {
            try {
                prepare(duty, disk, known, refused);
                break;
            } catch (const way_refused& how) {
                if (!remember(how, refused) || !adder(duty, disk, refused).may_add(known)) {
                    throw;
                }
            }
            retract();
        }
        info_.ring_flags = crew_->ring_flags();
        tell_fallbacks();
        start();
    }

    /// Stops, ends and deletes, each even if the one before failed; then throws what failed first.
    void close() {
        std::exception_ptr first;
        const auto attempt = [&first](auto&& step) {
            try {
                step();
            } catch (...) {
                first = first ? first : std::current_exception();
            }
        };
        attempt([this] { stop_serving(); });
        attempt([this] { end().dismiss_threads(); });
        attempt([this] { delete_device(); });
        if (first) {
            std::rethrow_exception(first);
        }
    }

    /// Nothing of a start that failed stays, and what goes wrong here must not hide why it failed.
    void give_up() noexcept {
        try {
            if (crew_) {
                end().settle();
                end().dismiss_threads();
            }
        } catch (...) {
        }
        try {
            if (crew_) {
                crew_->disband();  // with the threads goes /dev/ublkcN, which DEL_DEV waits for
            }
            if (added_) {
                delete_device();
            }
            (void)control_.undo_late_add(device_end<Kernel>::patience(asked_));
        } catch (...) {
        }
    }

    /// What was granted.
    [[nodiscard]] const device_info& info() const noexcept { return info_; }
    [[nodiscard]] const std::shared_ptr<crew<Kernel>>& threads() const noexcept { return crew_; }

private:
    /// Until the threads have offered every tag.
    void prepare(const service<Kernel>& duty, const disk_attributes& disk, std::uint64_t known,
                 const refused_ways& refused) {
        add(duty, disk, known, refused);
        control_.set_params(info_.id, to_params(disk, info_.max_io_bytes));
        hire(duty, disk.ring_files);
        crew_->muster();
        if (!crew_->ready(from_now(kernel_, asked_.command_deadline))) {
            fail(ETIMEDOUT, "starting the queue threads", info_.id,
                 "allocating the tag buffers takes too long",
                 "ask for less depth, fewer queues or a smaller max_io_bytes");
        }
    }

    /// Whether there may be another way, which the user allows.
    bool remember(const way_refused& how, refused_ways& refused) const {
        how.which() == way_refused::kind::batches
            ? void(refused.batches = how.reason())
            : void(refused.paths.emplace_back(info_.path, how.reason()));
        return asked_.fall_back;
    }

    /// Takes back what was added.
    void retract() {
        end().settle();
        end().dismiss_threads();
        crew_->disband();
        delete_device();
        crew_.reset();
        added_ = false;
    }

    void tell_fallbacks() {
        for (std::string& each : crew_->fallbacks()) {
            info_.fallbacks.push_back(std::move(each));
        }
        for (const std::string& each : info_.fallbacks) {
            log(each);
        }
    }

    [[nodiscard]] device_adder<Kernel> adder(const service<Kernel>& duty,
                                             const disk_attributes& disk,
                                             const refused_ways& refused) const {
        return {kernel_, asked_, cookie_, duty, disk, threads_to_share(), refused};
    }

    void add(const service<Kernel>& duty, const disk_attributes& disk, std::uint64_t known,
             const refused_ways& refused) {
        cookie_ = new_cookie();
        info_ = adder(duty, disk, refused).add(control_, known, [this](std::uint32_t id) {
            info_.id = id;
            added_ = true;
        });
        log("data path " + std::string{to_string(info_.path)} +
            (info_.path_reason.empty() ? "" : " (" + info_.path_reason + ")"));
        if (duty.driver_batches && !info_.driver_batches) {
            if (!asked_.fall_back) {
                fail(EOPNOTSUPP, "ADD_DEV", info_.id, "the driver has no batches",
                     "use Linux 7.0 or newer, another batch policy, or options::fall_back");
            }
            info_.fallbacks.push_back("completions go back once a wake-up: " +
                                      (refused.batches.empty()
                                           ? "the driver has no batches, which came with Linux 7.0"
                                           : refused.batches));
        }
        if (const unsigned cpus = std::min(kernel_.online_cpus(), uapi::max_nr_queues);
            asked_.queues == 0 && info_.queues < cpus) {
            log(std::to_string(info_.queues) + " queues for " + std::to_string(cpus) +
                " CPUs, since its threads could not serve more at this depth");
        }
        if (duty.splits_queues && !info_.tags_apart) {
            log("each queue has one thread, since tags of their own came with Linux 6.16");
        }
    }

    void log(const std::string& what) const {
        if (asked_.log != nullptr) {
            asked_.log("ublk: device " + std::to_string(info_.id) + ": " + what);
        }
    }

    // A thread that fails keeps START_DEV waiting, which then knows no better than ETIMEDOUT.
    void start() {
        try {
            control_.start_dev(info_.id, kernel_.process_id());
        } catch (const error&) {
            if (const int code = crew_->failure(); code != 0) {
                fail(code, "starting the queue threads", info_.id,
                     "the driver or the ring refused a queue thread", "see dmesg");
            }
            throw;
        }
        crew_->decided();
    }

    void hire(const service<Kernel>& duty, std::vector<const registered_file*> files) {
        device_plan plan = make_plan(duty);
        plan.files = std::move(files);
        auto channel = kernel_.open_channel(info_.id, from_now(kernel_, asked_.command_deadline));
        crew_ = std::make_shared<crew<Kernel>>(kernel_, duty, std::move(channel), std::move(plan),
                                               set_, asked_.log);
        info_.threads = static_cast<unsigned>(crew_->size());
    }

    // For a queue policy that can have any number.
    [[nodiscard]] unsigned threads_to_share() const noexcept {
        return set_                  ? static_cast<unsigned>(set_.threads)
               : asked_.threads != 0 ? asked_.threads
                                     : kernel_.online_cpus();
    }

    [[nodiscard]] device_plan make_plan(const service<Kernel>& duty) {
        device_plan plan{info_,
                         kernel_.page_size(),
                         {asked_.buffer_pages, asked_.lock_buffers, !asked_.fall_back}};
        if (duty.needs_affinity) {
            plan.affinity = fixed_array<cpu_set>{info_.queues};
        }
        for (std::size_t q = 0; q < plan.affinity.size(); ++q) {
            plan.affinity[q] =
                control_.get_queue_affinity(info_.id, queue_id{static_cast<std::uint16_t>(q)});
        }
        plan.shape = {.queues = info_.queues,
                      .depth = info_.depth,
                      .threads = threads_to_share(),
                      .tags_apart = info_.tags_apart};
        plan.cpus = asked_.cpus;
        if (duty.neighbours != nullptr) {
            plan.neighbours = duty.neighbours(
                kernel_, asked_.cpus.empty() ? std::optional<unsigned>{} : asked_.cpus.front());
        }
        plan.limits = {.spin = asked_.spin, .batch_delay = asked_.batch_delay};
        plan.sqpoll_idle_ms = static_cast<unsigned>(asked_.sqpoll_idle.count());
        return plan;
    }

    [[nodiscard]] std::uint64_t new_cookie() const noexcept {
        const auto now = kernel_.now().time_since_epoch().count();
        return static_cast<std::uint64_t>(now) ^ static_cast<std::uint64_t>(kernel_.process_id())
                                                     << 40;
    }

    // While our threads are there, /dev/ublkcN is open and keeps the id. Once they have left,
    // somebody may have deleted the device and the driver may have given its id to another, which
    // is not ours to stop.
    [[nodiscard]] bool still_ours() {
        if (crew_ && !crew_->gone(deadline{})) {
            return true;
        }
        try {
            return control_.get_dev_info(info_.id).server_flags == cookie_;
        } catch (const error& none) {
            if (none.errno_value() != ENODEV) {
                throw;
            }
            return false;
        }
    }

    // STOP first and join then: the driver writes dirty pages back through our threads.
    void stop_serving() {
        if (!still_ours()) {
            return;
        }
        end().stop();
    }

    [[nodiscard]] device_end<Kernel> end() { return {kernel_, asked_, control_, *crew_, info_.id}; }

    // With a request that is never answered, DEL_DEV would wait for ever and hold the driver's
    // global mutex meanwhile, which blocks every other ublk device of the host.
    void delete_device() {
        const bool threads_left = crew_ && !crew_->gone(deadline{});
        if (!threads_left && still_ours()) {
            // A client may keep the removed disk open for as long as it likes; that is no failure.
            (void)control_.del_dev(info_.id, device_end<Kernel>::patience(asked_));
        }
    }

    const Kernel& kernel_;
    const options& asked_;
    const set_handle& set_;
    control<Kernel> control_;
    std::uint64_t cookie_ = 0;  ///< what the driver keeps of us beside the id
    bool added_ = false;
    device_info info_;
    std::shared_ptr<crew<Kernel>> crew_;
};

}  // namespace ublk::inline v0
