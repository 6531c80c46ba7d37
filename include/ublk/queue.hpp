// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backend.hpp>
#include <ublk/batch_policy/batch_policy.hpp>
#include <ublk/buffers.hpp>
#include <ublk/completion.hpp>
#include <ublk/config.hpp>
#include <ublk/mapping.hpp>
#include <ublk/request.hpp>
#include <ublk/slot.hpp>
#include <ublk/token.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// One hardware queue as its thread sees it: the driver's descriptors and our buffers and slots,
/// one a tag.
struct queue {
    queue(queue_id number, mapping shared_descriptors, std::size_t descriptor_bytes, buffers memory,
          unsigned depth)
        : descriptors{std::move(shared_descriptors)},
          descriptor_size{descriptor_bytes}, data{std::move(memory)}, slots(depth), id{number} {}

    [[nodiscard]] const uapi::io_desc& descriptor(tag which) const noexcept {
        return *reinterpret_cast<const uapi::io_desc*>(descriptors.data() +
                                                       which.value() * descriptor_size);
    }

    mapping descriptors;
    std::size_t descriptor_size;  ///< as granted: newer drivers space them out
    buffers data;
    std::vector<slot> slots;
    queue_id id;
};

/// The loop of one thread: event -> descriptor -> backend -> commit, over the queues that it
/// serves. `SingleQueue` tells the compiler that there is one, so that no event is asked for its
/// queue.
template <class Backend, class BatchPolicy, class Port, bool SingleQueue>
class server {
    static_assert(batch_policy<BatchPolicy>,
                  "ublk: a batch policy needs: static bool due(unsigned waiting) noexcept;");

public:
    /// All outlive the server, and the queues the port as well. Once `refuse` is true, requests are
    /// answered with EIO instead of by the backend.
    server(Backend& backend, Port& port, std::span<queue> queues,
           const std::atomic<bool>& refuse = never) noexcept
        : backend_{backend}, port_{port}, refuse_{refuse}, queues_{queues} {}

    server(const server&) = delete;
    server& operator=(const server&) = delete;

    /// Offers every tag to the driver. Returns 0, or the errno (negative) with which it refused
    /// one.
    [[nodiscard]] int fetch_all() noexcept {
        for (std::uint16_t place = 0; place < queues_.size(); ++place) {
            queue& q = queues_[place];
            for (std::uint16_t i = 0; i < q.slots.size(); ++i) {
                const tag which{i};
                q.slots[i].offer();
                ++offered_;
                port_.fetch(q.id, which, q.data[which], token::io(place, which));
            }
        }
        const int code = port_.flush_and_collect();
        // A refused FETCH is answered at once. Unnoticed, START_DEV would wait for that tag for
        // ever.
        collect();
        return failure_ != 0 ? failure_ : passing(code) ? 0 : code;
    }

    /// Serves until the driver has taken back every tag, `token::wake()` arrives, or the ring
    /// fails. Returns 0, or what went wrong (negative errno).
    [[nodiscard]] int run() noexcept {
        while (offered_ != 0 && !quit_) {
            const int code = port_.wait();
            waiting_ = 0;
            if (code < 0 && !passing(code)) [[unlikely]] {
                return code;
            }
            collect();
        }
        (void)port_.flush();  // the last answers, if this thread leaves before the driver does
        return failure_;
    }

    /// For `promise`: hands the answer for a tag to the port. No one else calls it.
    [[gnu::always_inline]] void complete(std::uint16_t place, const request& r,
                                         result answer) noexcept {
        queue& q = at(place);
        const tag which = r.tag();
        q.slots[which.value()].offer();
        port_.commit(q.id, which, committed(r, answer), q.data[which], token::io(place, which));
        if (BatchPolicy::due(++waiting_)) {
            // Whatever is wrong now shows again at the wait, which reports it.
            (void)port_.flush();
            waiting_ = 0;
        }
    }

private:
    /// Errors of io_uring_enter that mean "again": a signal, a passing shortage, events to reap
    /// first.
    [[nodiscard]] static constexpr bool passing(int code) noexcept {
        return code == 0 || code == -EINTR || code == -EAGAIN || code == -EBUSY;
    }

    /// Only ever the full length or an errno: the driver completes the whole of a request that was
    /// answered with less (kernel 7.3, __ublk_complete_rq).
    [[nodiscard]] static int committed(const request& r, result answer) noexcept {
        if (!answer.ok()) [[unlikely]] {
            return -answer.error();
        }
        return carries_data(r) ? static_cast<int>(r.length()) : 0;
    }

    [[nodiscard]] static bool carries_data(const request& r) noexcept {
        return r.op() == uapi::op::read || r.op() == uapi::op::write;
    }

    [[nodiscard]] queue& at(std::uint16_t place) noexcept {
        return SingleQueue ? queues_.front() : queues_[place];
    }

    /// The hot loop: everything from the events to the queued commits is in this one function,
    /// which a test disassembles.
    [[gnu::noinline, gnu::flatten]] void collect() noexcept {
        port_.drain([this](token t, int answer) __attribute__((always_inline)) {
            if (t.is_io() && answer == uapi::io_res_ok) [[likely]] {
                serve(t.place(), t.which());
            } else {
                unusual(t, answer);
            }
        });
    }

    [[gnu::always_inline]] void serve(std::uint16_t place, tag which) noexcept {
        queue& q = at(place);
        q.slots[which.value()].take();
        const request r{q.descriptor(which), q.id, which};
        promise<server> duty{*this, place, r};
        const std::size_t bytes = carries_data(r) ? r.length() : 0;
        // The dropped promise answers EIO; serving it would overrun the next tag.
        if (bytes > q.data.stride() || refuse_.load(std::memory_order_relaxed)) [[unlikely]] {
            return;
        }
        std::move(duty).fulfil(dispatch(backend_, r, std::span{q.data[which], bytes}));
    }

    [[gnu::cold, gnu::noinline]] void unusual(token t, int answer) noexcept {
        if (!t.is_io()) {
            quit_ = true;
            return;
        }
        queue& q = at(t.place());
        q.slots[t.which().value()].lose();
        --offered_;
        if (answer != uapi::io_res_abort && answer != -ECANCELED) {
            // A refused command leaves its request with us and would hang its client. Ending the
            // server makes the driver fail the request and the device, which somebody notices.
            failure_ = answer < 0 ? answer : -EPROTO;
            quit_ = true;
        }
    }

    static inline const std::atomic<bool> never{false};

    Backend& backend_;
    Port& port_;
    const std::atomic<bool>& refuse_;
    std::span<queue> queues_;
    unsigned offered_ = 0;  ///< tags that the driver has not taken back
    unsigned waiting_ = 0;  ///< completions queued since the last system call
    int failure_ = 0;
    bool quit_ = false;
};

}  // namespace ublk::inline v0
