// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/bio.hpp>
#include <ublk/sim/disk_limits.hpp>
#include <ublk/sim/machine.hpp>
#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <limits>
#include <utility>
#include <vector>

namespace ublk::inline v0::sim {

/// The block layer above one disk: cuts what clients ask into requests, gives each a tag of its
/// hardware queue, and passes it to `driver.queue_rq(slot)`.
template <class Driver>
class request_queue {
public:
    request_queue(machine& on, Driver& driver, const disk_limits& limits, unsigned queues,
                  unsigned depth)
        : on_{on}, driver_{driver}, limits_{limits}, queues_(queues) {
        for (unsigned q = 0; q < queues; ++q) {
            queues_[q].slots.resize(depth);
            for (unsigned t = 0; t < depth; ++t) {
                queues_[q].slots[t].queue = static_cast<std::uint16_t>(q);
                queues_[q].slots[t].tag = static_cast<std::uint16_t>(t);
                queues_[q].free.push_back(static_cast<std::uint16_t>(t));
            }
        }
    }

    [[nodiscard]] const disk_limits& limits() const noexcept { return limits_; }
    void resize(std::uint64_t sectors) noexcept { limits_.capacity = sectors; }

    /// Begins; `b.done` says when it has ended.
    void submit(bio& b) {
        b.done = false;
        b.error = refusal(b);
        b.parts = 1;
        ++under_way_;
        if (b.error == 0) {
            b.flush_afterwards = b.op == uapi::op::write && (b.flags & uapi::io_flag::fua) != 0 &&
                                 limits_.volatile_cache && !limits_.fua;
            cut(b);
        }
        part_ended(b, b.error);
    }

    /// A request was carried out, or failed with a positive errno.
    void end(request_slot& rq, int error) {
        rq.started = false;
        bio& b = *rq.part.of;
        queue& q = queues_[rq.queue];
        q.free.push_back(rq.tag);
        part_ended(b, error);
        if (!q.waiting.empty() && !q.free.empty()) {
            const fragment next = q.waiting.front();
            q.waiting.pop_front();
            place(q, next);
        }
    }

    /// The first sectors of a request were carried out; the rest is asked again.
    void advance(request_slot& rq, std::uint32_t sectors) {
        rq.part.sector += sectors;
        rq.part.sectors -= sectors;
        rq.part.data += sectors_to_bytes(sectors);
        requeue(rq);
        kick();
    }

    /// Keeps a request until `kick`.
    void requeue(request_slot& rq) {
        rq.started = false;
        requeued_.push_back(&rq);
    }

    void kick() {
        if (held_) {
            return;
        }
        for (request_slot* const rq : std::exchange(requeued_, {})) {
            driver_.queue_rq(*rq);
        }
    }

    /// Nothing goes to the driver between these two.
    void hold() noexcept { held_ = true; }
    void let_go() {
        held_ = false;
        kick();
    }

    [[nodiscard]] request_slot& slot(unsigned number, unsigned tag) noexcept {
        return queues_[number].slots[tag];
    }

    /// Nobody waits for that bio any more: from now on it and its data are ours.
    void disown(bio& b) {
        const bool data = b.op == uapi::op::read || b.op == uapi::op::write;
        orphans_.push_back({b, std::vector<std::byte>(data ? sectors_to_bytes(b.sectors) : 0)});
        orphan& mine = orphans_.back();
        mine.b.waiting.clear();
        mine.b.also = nullptr;
        const auto adopt = [&](fragment& part) {
            if (part.of == &b) {
                part.of = &mine.b;
                part.data = data ? mine.data.data() + (part.data - b.data) : nullptr;
            }
        };
        for (queue& q : queues_) {
            for (request_slot& rq : q.slots) {
                adopt(rq.part);
            }
            for (fragment& part : q.waiting) {
                adopt(part);
            }
        }
        mine.b.data = mine.data.data();
    }

    /// New bios fail from now on.
    void shut_door() noexcept { open_ = false; }
    [[nodiscard]] bool is_open() const noexcept { return open_; }

    /// Waits until nothing is under way.
    void drain() {
        while (under_way_ != 0) {
            (void)on_.tasks.block(drained_, "requests in flight (del_gendisk)");
        }
    }

    /// Requests that the driver has.
    [[nodiscard]] std::size_t started() const noexcept {
        std::size_t n = 0;
        for (const queue& q : queues_) {
            n += static_cast<std::size_t>(std::count_if(
                q.slots.begin(), q.slots.end(), [](const request_slot& rq) { return rq.started; }));
        }
        return n;
    }

private:
    struct queue {
        std::vector<request_slot> slots;
        std::vector<std::uint16_t> free;
        std::deque<fragment> waiting;  ///< for a tag
    };

    struct orphan {
        bio b;
        std::vector<std::byte> data;
    };

    /// The errno with which the block layer itself answers, or 0.
    [[nodiscard]] int refusal(const bio& b) const noexcept {
        if (!open_) {
            return EIO;
        }
        if (b.op == uapi::op::flush) {
            return 0;
        }
        if (b.sector % limits_.logical_block != 0 || b.sectors % limits_.logical_block != 0) {
            return EINVAL;
        }
        if (b.sectors > limits_.capacity || b.sector > limits_.capacity - b.sectors) {
            return EIO;
        }
        if (b.op != uapi::op::read && limits_.read_only) {
            return EPERM;
        }
        return largest(b.op) == 0 ? EOPNOTSUPP : 0;
    }

    [[nodiscard]] std::uint32_t largest(uapi::op op) const noexcept {
        switch (op) {
        case uapi::op::discard:
            return limits_.max_discard;
        case uapi::op::write_zeroes:
            return limits_.max_write_zeroes;
        default:
            return limits_.max_transfer;
        }
    }

    void cut(bio& b) {
        if (b.op == uapi::op::flush) {
            if (limits_.volatile_cache) {  // else nothing is volatile and nobody is asked
                issue(b, flush_of(b));
            }
            return;
        }
        const bool data = b.op == uapi::op::read || b.op == uapi::op::write;
        // Without a volatile cache every write is durable, so nobody hears of FUA.
        const std::uint32_t kept = limits_.fua ? b.flags : b.flags & ~uapi::io_flag::fua;
        const std::uint32_t most = largest(b.op);
        for (std::uint64_t done = 0; done < b.sectors;) {
            const std::uint64_t sector = b.sector + done;
            // Zeroes come in bios of that length at most (blkdev_issue_zeroout) before they are
            // cut.
            const std::uint64_t of_bio =
                b.op == uapi::op::write_zeroes ? most - done % most : b.sectors - done;
            const std::uint64_t length =
                std::min({room_at(b.op, sector, most), of_bio, b.sectors - done});
            issue(b, {&b, b.op, kept, static_cast<std::uint32_t>(length), sector,
                      data ? b.data + sectors_to_bytes(done) : nullptr});
            done += length;
        }
    }

    /// A flush has no sector, which the block layer writes as the last one that there is.
    [[nodiscard]] static fragment flush_of(bio& b) noexcept {
        return {&b, uapi::op::flush, 0, 0, std::numeric_limits<std::uint64_t>::max(), nullptr};
    }

    /// How much a request from that sector on may carry. Where a bio is cut, it is cut at a
    /// physical block (get_max_io_size), a discard at its granularity (bio_split_discard).
    [[nodiscard]] std::uint64_t room_at(uapi::op op, std::uint64_t sector,
                                        std::uint64_t most) const noexcept {
        if (op == uapi::op::discard) {
            const std::uint64_t beyond = (sector + most) % limits_.discard_granularity;
            return most > beyond ? most - beyond : most;
        }
        if (limits_.chunk != 0) {
            most = std::min<std::uint64_t>(most, limits_.chunk - sector % limits_.chunk);
        }
        const std::uint64_t start = sector % limits_.physical_block;
        const std::uint64_t end = round_down(start + most, limits_.physical_block);
        return end > start ? end - start : round_down(most, limits_.logical_block);
    }

    void issue(bio& b, const fragment& part) {
        ++b.parts;
        queue& q = queues_[b.cpu % queues_.size()];
        if (q.free.empty()) {
            q.waiting.push_back(part);
        } else {
            place(q, part);
        }
    }

    void place(queue& q, const fragment& part) {
        const std::size_t choice = on_.dice.below(q.free.size());
        const std::uint16_t tag = std::exchange(q.free[choice], q.free.back());
        q.free.pop_back();
        request_slot& rq = q.slots[tag];
        rq.part = part;
        if (held_) {
            requeued_.push_back(&rq);
        } else {
            driver_.queue_rq(rq);
        }
    }

    void part_ended(bio& b, int error) {
        if (b.error == 0) {
            b.error = error;
        }
        if (--b.parts != 0) {
            return;
        }
        if (std::exchange(b.flush_afterwards, false) && b.error == 0) {
            issue(b, flush_of(b));
            return;
        }
        b.done = true;
        on_.tasks.wake(b.waiting);
        if (b.also != nullptr) {
            on_.tasks.wake(*b.also);
        }
        if (--under_way_ == 0) {
            on_.tasks.wake(drained_);
        }
    }

    machine& on_;
    Driver& driver_;
    disk_limits limits_;
    std::vector<queue> queues_;
    std::vector<request_slot*> requeued_;
    std::deque<orphan> orphans_;
    std::uint64_t under_way_ = 0;  ///< bios
    wait_list drained_;
    bool open_ = true;
    bool held_ = false;
};

}  // namespace ublk::inline v0::sim
