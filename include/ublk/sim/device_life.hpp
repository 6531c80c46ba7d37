// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/driver_device.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace ublk::inline v0::sim {

using device_ptr = std::shared_ptr<driver_device>;

/// The devices that there are, and how each of them ends: STOP_DEV, the death of its server, the
/// last reference.
class device_life {
public:
    explicit device_life(machine& m) : on{m} {}
    device_life(const device_life&) = delete;
    device_life& operator=(const device_life&) = delete;
    ~device_life() { (void)forget_all(); }

    std::size_t forget_all() {
        const auto left = std::exchange(ids, {});
        for (const auto& each : left) {
            each.second->live.reset();  // which refers back to its device
        }
        return left.size();
    }

    [[nodiscard]] device_ptr find(std::uint32_t id) const {
        const auto found = ids.find(id);
        return found == ids.end() ? nullptr : found->second;
    }

    /// The one whose open /dev/ublkcN that is, to servers without USER_COPY; null for none.
    [[nodiscard]] device_ptr find_by_file(int file) const {
        const auto found = std::find_if(ids.begin(), ids.end(), [&](const auto& each) {
            return each.second->memory.get() == file;
        });
        return found == ids.end() ? nullptr : found->second;
    }

    void put(const device_ptr& ub) {
        if (--ub->refs == 0) {
            ids.erase(ub->info.dev_id);
            on.tasks.wake(number_freed);
        }
    }

    /// Makes /dev/ublkbN.
    void add_disk(const device_ptr& ub) {
        ++ub->refs;
        ub->used = true;
        const auto freed = [this, ub](driver_device::disk* gone) {
            delete gone;
            ub->used = false;
            put(ub);
        };
        ub->live = {new driver_device::disk{on, *ub, disk_limits::of(ub->params),
                                            ub->info.nr_hw_queues, ub->info.queue_depth},
                    freed};
    }

    /// STOP_DEV: takes away the disk, then the tags.
    void stop(const device_ptr& ub) {
        bool holds_file = false;
        {
            const std::lock_guard guard{ub->lock};
            take_away_disk(*ub);
            end_scan(*ub);
            if (ub->file_refs != 0) {
                holds_file = true;
                ++ub->file_refs;
                ub->stopping = on.since(7, 3);
            }
        }
        if (on.since(7, 3)) {
            if (!holds_file) {
                return;
            }
            on.tasks.wake(ub->ready_changed);
        }
        ub->cancel_all();
        if (holds_file) {
            put_file(ub);
        }
    }

    /// One reference to the open /dev/ublkcN less: a file descriptor, a ring, a STOP_DEV at work.
    void put_file(const device_ptr& ub) {
        if (--ub->file_refs != 0) {
            return;
        }
        if (!ub->per_io_daemon()) {
            ub->opened = false;
            ub->opener = nullptr;
            put(ub);
            return;
        }
        (void)on.tasks.spawn("release worker", [this, ub] {
            on.tasks.sleep(on.some_time());
            release(ub);
        });
    }

    /// The ring of a server thread goes: its commands are given back, requests that were on their
    /// way are not served.
    void close_ring(ring& leaving) {
        leaving.gone = true;
        leaving.buffers.clear();
        std::vector<ring::task_work> work = std::exchange(leaving.work, {});
        for (const auto& each : std::map{ids}) {
            const device_ptr ub = each.second;
            ub->forget(leaving, work);
            mourn(ub);
            if (!ub->per_io_daemon() && ub->live != nullptr) {
                (void)on.tasks.spawn("request timeout", [this, ub] {
                    on.tasks.sleep(std::chrono::seconds{30});
                    ub->time_out();
                    mourn(ub);
                });
            }
        }
    }

    /// Before 6.16: what follows when the driver has noticed that its server is gone.
    void mourn(const device_ptr& ub) {
        if (std::exchange(ub->wants_stop_work, false)) {
            (void)on.tasks.spawn("stop worker", [this, ub] {
                on.tasks.sleep(on.some_time());
                ub->has(uapi::feature::user_recovery) ? quiesce_old(ub) : stop(ub);
            });
        }
    }

    /// Waits until the server has nothing of a disk that lets no request through.
    void wait_until_idle(driver_device& ub) {
        while (ub.live->started() != 0) {
            on.tasks.sleep(std::chrono::milliseconds{3});
        }
    }

    /// Reads the first page, as the search for partitions does.
    void scan(driver_device& ub) {
        const std::shared_ptr<driver_device::disk> disk = ub.live;
        if (disk == nullptr || ub.scan_cancelled) {
            return;
        }
        constexpr std::uint64_t page = 8;
        const std::uint64_t sectors = std::min(page, disk->limits().capacity);
        std::vector<std::byte> data(sectors_to_bytes(sectors));
        bio first;
        first.sectors = sectors - sectors % disk->limits().logical_block;
        first.data = data.data();
        disk->submit(first);
        while (!first.done) {
            (void)on.tasks.block(first.waiting, "the partition scan's read");
        }
    }

    /// The same in the background, since 7.0.
    void begin_scan(const device_ptr& ub) {
        ub->scanning = true;
        ub->scan_cancelled = false;
        (void)on.tasks.spawn("partition scan", [this, ub] {
            on.tasks.sleep(on.some_time());
            scan(*ub);
            ub->scanning = false;
            on.tasks.wake(ub->scan_ended);
        });
    }

    /// What clients left in the page cache.
    void write_back(driver_device& ub) {
        const std::shared_ptr<driver_device::disk> disk = ub.live;
        if (disk == nullptr) {
            return;
        }
        for (dirty_page& page : std::exchange(ub.dirty, {})) {
            bio b;
            b.op = uapi::op::write;
            b.sector = page.sector;
            b.sectors = bytes_to_sectors(page.data.size());
            b.data = page.data.data();
            disk->submit(b);
            while (!b.done) {
                (void)on.tasks.block(b.waiting, "the write-back of dirty pages ");
            }
        }
    }

    machine& on;
    std::map<std::uint32_t, device_ptr> ids;
    wait_list number_freed;
    unsigned unprivileged = 0;  ///< devices of that kind

private:
    void take_away_disk(driver_device& ub) {
        if (ub.info.state == uapi::dev_state::dead) {
            return;
        }
        if (ub.queues_without_server()) {
            ub.live->hold();
            if (ub.info.state == uapi::dev_state::live) {
                wait_until_idle(ub);
            }
            for (hardware_queue& q : ub.queues) {
                q.force_abort = true;
            }
            ub.live->let_go();
        }
        write_back(ub);
        ub.live->shut_door();
        ub.live->drain();
        ub.info.state = uapi::dev_state::dead;
        ub.info.pid = -1;
        ub.live.reset();
    }

    void end_scan(driver_device& ub) {
        ub.scan_cancelled = true;
        while (ub.scanning) {
            (void)on.tasks.block(ub.scan_ended, "the end of the partition scan");
        }
    }

    /// After the last reference to /dev/ublkcN: the server is gone, whether it meant to or not.
    void release(const device_ptr& ub) {
        if (ub->live != nullptr) {
            const std::shared_ptr<driver_device::disk> disk = ub->live;
            ub->set_canceling();
            for (hardware_queue& q : ub->queues) {
                ub->abort_owned(q);
            }
            disk->kick();
        }
        {
            const std::lock_guard guard{ub->lock};
            if (ub->live != nullptr) {
                lose_server(*ub);
            }
            ub->reset_rounds();
            ub->server = -1;
            ub->stopping = false;
        }
        ub->opened = false;
        ub->opener = nullptr;
        put(ub);
    }

    void lose_server(driver_device& ub) {
        if (!ub.has(uapi::feature::user_recovery)) {
            for (hardware_queue& q : ub.queues) {
                q.force_abort = true;
            }
            take_away_disk(ub);
        } else if (ub.queues_without_server()) {
            ub.info.state = uapi::dev_state::quiesced;
        } else {
            ub.info.state = uapi::dev_state::fail_io;
            for (hardware_queue& q : ub.queues) {
                q.fail_io = true;
            }
        }
    }

    /// Before 6.16, for a device with recovery: no request goes anywhere until a next server.
    void quiesce_old(const device_ptr& ub) {
        {
            const std::lock_guard guard{ub->lock};
            const bool live = ub->info.state == uapi::dev_state::live;  // it may have been stopped
            if (live && ub->has(uapi::feature::user_recovery_fail_io)) {
                lose_server(*ub);
            } else if (live) {
                ub->live->hold();
                wait_until_idle(*ub);
                ub->info.state = uapi::dev_state::quiesced;
            }
        }
        ub->cancel_all();
    }
};

}  // namespace ublk::inline v0::sim
