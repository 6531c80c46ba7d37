// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/driver_state.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

namespace ublk::inline v0::sim {

/// How the bytes of requests get to a server and back: by a copy into and out of memory that it
/// names, through the file of the device, or as pages in the table of its ring.
class driver_data : public driver_state {
public:
    using driver_state::driver_state;

    /// The request that has its bytes there, in the journal; 0 for none.
    [[nodiscard]] std::uint64_t request_at(const std::byte* place) {
        for (unsigned q = 0; live != nullptr && q < queues.size(); ++q) {
            for (unsigned t = 0; t < queues[q].slots.size(); ++t) {
                const io_slot& slot = queues[q].slots[t];
                if (slot.owned && slot.buffer != nullptr && place >= slot.buffer &&
                    place < slot.buffer + info.max_io_buf_bytes) {
                    return live->slot(q, t).number;
                }
            }
        }
        return 0;
    }

    /// Requests that the server has through that ring.
    [[nodiscard]] std::size_t owned_through(const ring& through) const noexcept {
        std::size_t n = 0;
        for (const hardware_queue& q : queues) {
            n += static_cast<std::size_t>(
                std::count_if(q.slots.begin(), q.slots.end(), [&through](const io_slot& s) {
                    return s.to == &through && (s.owned || s.aborted);
                }));
        }
        return n;
    }

    /// PREP_IO_CMDS fails: a tag that it took before is the server's again.
    void give_back(const io_command& c) {
        hardware_queue& q = queues[c.queue.value()];
        io_slot& slot = q.slots[c.t.value()];
        if (q.ready-- == q.slots.size()) {
            --queues_ready;
            q.canceling = true;
        }
        (void)slot.open_buffer();
        slot = {};
    }

protected:
    /// A device with batches knows no commands of single tags, any other no batches.
    [[nodiscard]] int refuse_kind(const io_command& c, bool of_batch) {
        const int code = of_batch || find(c) == nullptr ? -EINVAL : -EOPNOTSUPP;
        on.violation(std::string{of_batch ? "a batch command" : "a command of a single tag"} +
                     " of " + name(c) + " is refused: " + reason(code));
        return code;
    }

    [[nodiscard]] static std::size_t bytes_of(const request_slot& rq) noexcept {
        const bool data = rq.part.op == uapi::op::read || rq.part.op == uapi::op::write;
        return data ? static_cast<std::size_t>(sectors_to_bytes(rq.part.sectors)) : 0;
    }

    void describe(const io_slot& slot, const request_slot& rq, std::uint32_t more = 0) noexcept {
        const uapi::io_desc words{static_cast<std::uint32_t>(rq.part.op) | rq.part.flags | more,
                                  rq.part.sectors, rq.part.sector,
                                  copies() ? reinterpret_cast<std::uintptr_t>(slot.buffer)
                                           : slot.registration};
        std::memcpy(descriptors.data() + rq.queue * stride + rq.tag * descriptor_size(), &words,
                    sizeof words);
    }

    /// Whether the server is first to say where the bytes of a write belong.
    [[nodiscard]] bool asks_for_place(const io_slot& slot, const request_slot& rq) const noexcept {
        return has(uapi::feature::need_get_data) && rq.part.op == uapi::op::write &&
               !slot.wants_buffer;
    }

    /// Before the server hears of a request. False where that fails it.
    [[nodiscard]] bool bring(ring& to, io_slot& slot, request_slot& rq) {
        const std::size_t bytes = bytes_of(rq);
        const bool write = rq.part.op == uapi::op::write;
        if (copies() && write) {
            std::memcpy(slot.buffer, rq.part.data, bytes);
        } else if (has_tag_buffers() && slot.buffer != nullptr) {
            std::memset(slot.buffer, static_cast<int>(stale), bytes);
        }
        if (has_tag_buffers()) {
            slot.lend_buffer(bytes, forbidden_reach());
        }
        if (window != nullptr && bytes != 0) {
            window->open(rq.queue, rq.tag, {rq.part.data, bytes}, write || !on.is.strict);
        }
        return !has(uapi::feature::auto_buf_reg) || bytes == 0 || register_by_itself(to, slot, rq);
    }

    /// The server has answered: how many sectors count as done.
    [[nodiscard]] std::uint32_t take_back(const io_command& c, request_slot& rq) {
        const bool read = rq.part.op == uapi::op::read;
        const std::size_t bytes = bytes_of(rq);
        std::span<const std::byte> from{};
        if (window != nullptr && bytes != 0) {
            from = window->close(rq.queue, rq.tag, bytes);
            watch_window(c, rq, from);
        } else if (copies() && read) {
            from = {c.buffer(), bytes};
        }
        // Older kernels ask for the rest of any short transfer, newer ones only of a read that they
        // copy; else they take it for the whole.
        const bool partly = on.since(6, 16) ? read && copies() : bytes != 0;
        const std::size_t done =
            partly && c.result >= 0 ? std::min(bytes, static_cast<std::size_t>(c.result)) : bytes;
        if (read && c.result >= 0 && !from.empty()) {
            std::memcpy(rq.part.data, from.data(), done);
        }
        return bytes == 0 ? rq.part.sectors : static_cast<std::uint32_t>(bytes_to_sectors(done));
    }

    // ---------------------------------------------------------------- pages in a ring's table

    /// REGISTER_IO_BUF. 0 or -errno.
    [[nodiscard]] int register_pages(ring& from, const io_command& c) {
        io_slot* const slot = find(c);
        if (slot == nullptr) {
            return -EINVAL;
        }
        if (!slot->owned) {
            const bool daemon = slot->daemon == &on.tasks.running();
            return daemon && !has(uapi::feature::batch_io) ? -EBUSY : -EINVAL;
        }
        request_slot& rq = live->slot(c.queue.value(), c.t.value());
        if (!has(uapi::feature::support_zero_copy) || slot->wants_buffer || bytes_of(rq) == 0) {
            return -EINVAL;
        }
        return put_pages(from, *slot, rq, static_cast<std::size_t>(c.address));
    }

    /// UNREGISTER_IO_BUF asks for no tag. 0 or -errno.
    [[nodiscard]] int unregister_pages(ring& from, const io_command& c) const {
        return has(uapi::feature::support_zero_copy)
                   ? from.buffers.take(static_cast<std::size_t>(c.address))
                   : -EINVAL;
    }

    /// What the driver registered with the request goes with its answer, if that comes by the same
    /// ring.
    void unregister_by_itself(ring& from, io_slot& slot) {
        if (std::exchange(slot.registered_in, nullptr) == &from) {
            (void)from.buffers.take(place_of(slot.registration));
        }
    }

    /// Nobody holds the pages of a request any more that was answered before.
    virtual void finish(io_slot& slot, request_slot& rq) = 0;

private:
    [[nodiscard]] static std::size_t place_of(std::uint64_t registration) noexcept {
        return static_cast<std::uint16_t>(registration);
    }

    [[nodiscard]] int put_pages(ring& to, io_slot& slot, request_slot& rq, std::size_t place) {
        ++slot.pages;
        return to.buffers.put(
            place, std::make_shared<registered_pages>(rq, bytes_of(rq), [this, &slot, &rq] {
                if (--slot.pages == 0 && std::exchange(slot.answered, false)) {
                    finish(slot, rq);
                }
            }));
    }

    [[nodiscard]] bool register_by_itself(ring& to, io_slot& slot, request_slot& rq) {
        if (!on.dice.chance(on.is.often.unregistered) &&
            put_pages(to, slot, rq, place_of(slot.registration)) == 0) {
            slot.registered_in = &to;
            return true;
        }
        if ((slot.registration >> 16 & uapi::auto_buf_reg_fallback) == 0) {
            return false;
        }
        describe(slot, rq, uapi::io_flag::need_reg_buf);
        return true;
    }

    /// What a server must not do with the bytes behind the file.
    void watch_window(const io_command& c, const request_slot& rq,
                      std::span<const std::byte> found) {
        if (c.result < 0) {
            return;
        }
        if (rq.part.op == uapi::op::read && copy_window::has_stale_word(found)) {
            on.violation("a read is answered without all of its bytes: " + name(c));
        } else if (rq.part.op == uapi::op::write &&
                   !std::equal(found.begin(), found.end(), rq.part.data)) {
            on.violation("the bytes of a write were overwritten by its server: " + name(c));
        }
    }
};

}  // namespace ublk::inline v0::sim
