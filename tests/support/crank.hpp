// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/dispatch.hpp>
#include <ublk/sim/perform.hpp>

#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace ublk::test {

/// Serves single requests of an asynchronous backend by hand: its operations are done one after
/// the other, by system calls, or by whatever a test puts in their place.
class crank {
public:
    /// What answers an operation. Registered buffers have become addresses by then.
    std::function<int(const detail::submission&)> kernel = [](const detail::submission& requested) {
        return requested.code == detail::opcode::timeout ? -ETIME : sim::perform(requested);
    };

    /// Every operation so far, in the order in which they were submitted.
    std::vector<detail::submission> seen;

    explicit crank(std::size_t task_bytes = 2048)
        : memory_(task_bytes / sizeof(std::max_align_t) + 1), with_{home_,
                                                                    std::as_writable_bytes(
                                                                        std::span{memory_})} {}

    /// One request from its begin to its end. Payload: what the backend takes.
    template <class B, class P>
    [[nodiscard]] result serve(B& backend, const request& requested, P payload) {
        task running = dispatch(backend, with_, requested, payload);
        if (!running.done()) {
            running.start(with_);
            turn();
        }
        UBLK_ASSERT(running.done(), "a task ends when all its operations have");
        return running.answer();
    }

    /// The same with a registered buffer of these bytes. `base` is the address that it has in
    /// io_uring's eyes.
    template <class B>
    [[nodiscard]] result serve_registered(B& backend, const request& requested,
                                          std::span<std::byte> bytes, std::uint64_t base = 0) {
        registered_ = bytes;
        base_ = base;
        return serve(backend, requested, registered_buffer{registered_index, base, bytes.size()});
    }

    [[nodiscard]] io& with() noexcept { return with_; }

    /// Bytes of coroutine frames in use.
    [[nodiscard]] std::size_t frames() noexcept { return with_.frames().used(); }

private:
    static constexpr std::uint16_t registered_index = 7;

    // All that is submitted in one turn is in flight at the same time, as on a ring.
    void turn() {
        while (true) {
            std::vector<detail::operation*> submitted;
            while (detail::operation* const next = home_.next_submission()) {
                seen.push_back(next->submitted);
                submitted.push_back(next);
            }
            detail::offloaded* back = home_.take_completed();
            if (submitted.empty() && back == nullptr) {
                return;
            }
            for (detail::operation* each : submitted) {
                if (home_.ended(*each, kernel(resolved(each->submitted)))) {
                    each->waiting.resume();
                }
            }
            while (back != nullptr) {
                std::exchange(back, back->next)->waiting.resume();
            }
        }
    }

    [[nodiscard]] detail::submission resolved(detail::submission requested) const {
        if (requested.code == detail::opcode::read_fixed ||
            requested.code == detail::opcode::write_fixed) {
            UBLK_ASSERT(requested.buffer == registered_index, "the buffer is the request's");
            const std::uint64_t from = requested.address - base_;
            UBLK_ASSERT(from + requested.length <= registered_.size(), "it stays in its buffer");
            requested.address = reinterpret_cast<std::uintptr_t>(registered_.data()) + from;
        }
        return requested;
    }

    detail::runtime_queue home_{[](const void*) noexcept {}, nullptr};
    std::vector<std::max_align_t> memory_;
    std::span<std::byte> registered_;
    std::uint64_t base_ = 0;
    io with_;
};

/// A request in words.
[[nodiscard]] inline request make_request(uapi::op op_code, std::uint64_t offset,
                                          std::uint64_t bytes, std::uint32_t flags = 0) {
    uapi::io_desc descriptor{};
    descriptor.op_flags = static_cast<std::uint32_t>(op_code) | flags;
    descriptor.start_sector = bytes_to_sectors(offset);
    descriptor.nr_sectors = static_cast<std::uint32_t>(bytes_to_sectors(bytes));
    return request{descriptor, queue_id{0}, tag{0}};
}

}  // namespace ublk::test
