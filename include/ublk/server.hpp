// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/batch_policy/batch_policy.hpp>
#include <ublk/completion.hpp>
#include <ublk/config.hpp>
#include <ublk/data_path/copy.hpp>
#include <ublk/dispatch.hpp>
#include <ublk/lender.hpp>
#include <ublk/orders.hpp>
#include <ublk/queue.hpp>
#include <ublk/token.hpp>
#include <ublk/workshop.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

namespace ublk::inline v0 {

/// The loop of one thread: event -> descriptor -> backend -> commit, over the queues that it
/// serves. `SingleQueue` tells the compiler that there is one, so that no event is asked for its
/// queue.
template <class Backend, class BatchPolicy, class Port, bool SingleQueue, class Path = paths::copy>
class server {
    static_assert(batch_policy<BatchPolicy>,
                  "ublk: a batch policy needs: static bool due(unsigned waiting) noexcept;");
    static constexpr bool lends = Path::id == data_path::lend;
    static constexpr bool async = asynchronous<Backend, typename Path::payload>;

    struct finisher {
        server* of;
        void operator()(tag_work& ended) const noexcept { of->finish(ended); }
    };

public:
    /// All outlive the server, and the queues the port as well.
    server(Backend& backend, Port& port, std::span<queue> queues,
           const std::atomic<unsigned>& orders = orders::always_serve, rouser rouse = {})
        : backend_{backend}, port_{port}, orders_{orders}, queues_{queues}, tasks_{port, rouse,
                                                                                   finisher{this}} {
        for (const queue& each : queues_) {
            if constexpr (async) {
                tasks_.add_queue(static_cast<unsigned>(each.slots.size()), task_bytes<Backend>);
            }
            if constexpr (lends) {
                lender_.add_queue(each.slots.size());
            }
        }
    }

    server(const server&) = delete;
    server& operator=(const server&) = delete;

    /// Offers every tag to the driver. Returns 0, or the errno (negative) of a refusal.
    [[nodiscard]] int fetch_all() noexcept {
        for (std::uint16_t place = 0; place < queues_.size(); ++place) {
            queue& q = queues_[place];
            for (std::uint16_t i = 0; i < q.slots.size(); ++i) {
                const tag which{i};
                q.slots[i].offer();
                ++offered_;
                port_.fetch(q.id, which, Path::address(spot(place, which)),
                            token::io(place, which));
            }
        }
        const int code = port_.flush_and_collect();
        // A refused FETCH is answered at once. Unnoticed, it would make START_DEV wait for ever.
        collect();
        return failure_ != 0 ? failure_ : enters_again(code) ? 0 : code;
    }

    /// Serves until the driver has taken back every tag, it is ordered to leave, or the ring fails.
    /// Returns 0, or what went wrong (negative errno).
    [[nodiscard]] int run() noexcept {
        while (offered_ != 0 && !quit_) {
            const int code = port_.wait();
            waiting_ = 0;
            if (!enters_again(code)) [[unlikely]] {
                failure_ = failure_ != 0 ? failure_ : code;
                break;  // what the backend has in flight must end all the same
            }
            collect();
        }
        if constexpr (async) {
            end_all_work();
        }
        (void)port_.flush();  // the last answers, if we leave before the driver does
        return failure_;
    }

    /// For `promise`: hands the answer for a tag to the port.
    [[gnu::always_inline]] void complete(std::uint16_t place, const request& r,
                                         result answer) noexcept {
        queue& q = at(place);
        const tag which = r.tag();
        q.slots[which.value()].offer();
        buffer_address where = Path::address(spot(place, which));
        if constexpr (lends) {
            where.memory = lender_.for_read(backend_, r, answer);
        }
        port_.commit(q.id, which, committed(r, answer), where, token::io(place, which));
        if (BatchPolicy::due(++waiting_)) {
            // Whatever is wrong now shows again at the wait, which reports it.
            (void)port_.flush();
            waiting_ = 0;
        }
    }

private:
    /// Only ever the full length or an errno: the driver completes the whole of a request that was
    /// answered with less (kernel 7.3, __ublk_complete_rq).
    [[nodiscard]] static int committed(const request& r, result answer) noexcept {
        if (!answer.ok()) [[unlikely]] {
            return -answer.error();
        }
        return r.carries_data() ? static_cast<int>(r.length()) : 0;
    }

    [[nodiscard]] queue& at(std::uint16_t place) noexcept {
        return SingleQueue ? queues_.front() : queues_[place];
    }

    [[nodiscard]] tag_place spot(std::uint16_t place, tag which) noexcept {
        queue& q = at(place);
        const std::size_t first = SingleQueue ? 0 : place * q.slots.size();
        return {q, which, static_cast<std::uint16_t>(first + which.value())};
    }

    /// The hot loop: everything from the events to the queued commits is in this one function,
    /// which a test disassembles.
    [[gnu::noinline, gnu::flatten]] void collect() noexcept {
        port_.drain([this](token t, int answer) __attribute__((always_inline)) {
            if (t.is_io() && answer == uapi::io_res_ok) [[likely]] {
                serve(t.place(), t.which());
            } else if (!expected(t, answer)) {
                unusual(t, answer);
            }
        });
    }

    /// Events that only some backends have.
    [[gnu::always_inline]] bool expected(token t, int answer) noexcept {
        if constexpr (async) {
            if (t.is_operation()) [[likely]] {
                tasks_.go_on(t.which_operation(), answer);
                return true;
            }
        }
        if constexpr (lends) {
            if (t.is_io() && answer == uapi::io_res_need_get_data) [[likely]] {
                ask_for_data(t.place(), t.which());
                return true;
            }
        }
        return false;
    }

    [[gnu::always_inline]] void serve(std::uint16_t place, tag which) noexcept {
        const tag_place here = spot(place, which);
        at(place).slots[which.value()].take();
        const request r{here.of.descriptor(which), here.of.id, which};
        const std::size_t bytes = r.carries_data() ? r.length() : 0;
        // Serving what exceeds its buffer would overrun the next tag.
        const bool unfit = has_tag_buffers(Path::id) && bytes > here.of.data.stride();
        const bool refused = unfit || told(orders::refuse);
        if constexpr (async) {
            begin(place, here, r, bytes, refused);
        } else {
            promise<server> duty{*this, place, r};
            if (!refused) [[likely]] {  // else the dropped promise answers EIO
                std::move(duty).fulfil(in_place(bytes)
                                           ? lender_.arrived(r, here.index)
                                           : dispatch(backend_, r, Path::bytes(here, bytes)));
            }
        }
    }

    /// Whether the kernel copies these bytes straight from and to the backend's memory.
    [[nodiscard]] static constexpr bool in_place(std::size_t bytes) noexcept {
        return lends && bytes != 0;
    }

    void begin(std::uint16_t place, const tag_place& here, const request& r, std::size_t bytes,
               bool refused) noexcept {
        tag_work& work = tasks_.work(SingleQueue ? 0 : place, here.which);
        work.asked = r;
        if (refused) [[unlikely]] {
            tasks_.begin(work, std::errc::io_error);
        } else if (in_place(bytes)) {
            tasks_.begin(work, lender_.arrived(r, here.index));
        } else {
            if (bytes != 0 && registers(r)) {
                port_.register_buffer(here.of.id, here.which, here.index);
                work.registered = true;
            }
            tasks_.begin(work, dispatch(backend_, work, work.asked, Path::bytes(here, bytes)));
        }
    }

    /// Whether it is on us to put the client's pages into the table of buffers.
    [[nodiscard]] static bool registers(const request& r) noexcept {
        return Path::id == data_path::zero_copy || (Path::id == data_path::auto_buffer &&
                                                    (r.flags() & uapi::io_flag::need_reg_buf) != 0);
    }

    void finish(tag_work& work) noexcept {
        const result answer = work.running.answer();
        work.running = task{ok};
        if (registers_requests(Path::id) && std::exchange(work.registered, false)) {
            const tag_place here = spot(work.place, work.asked.tag());
            port_.unregister_buffer(here.of.id, here.which, here.index);
        }
        complete(work.place, work.asked, answer);
    }

    [[gnu::cold, gnu::noinline]] void end_all_work() noexcept {
        tasks_.cancel();
        while (tasks_.busy()) {
            if (!enters_again(port_.wait())) {
                tasks_.leave_behind();
                return;
            }
            collect();
        }
        tasks_.abandon();
    }

    /// A write: says where its bytes belong, upon which the kernel puts them there.
    [[gnu::always_inline]] void ask_for_data(std::uint16_t place, tag which) noexcept {
        queue& q = at(place);
        q.slots[which.value()].take();
        const request r{q.descriptor(which), q.id, which};
        const std::byte* const memory = lender_.for_write(backend_, r, spot(place, which).index);
        if (memory == nullptr || told(orders::refuse)) [[unlikely]] {
            complete(place, r, std::errc::io_error);
            return;
        }
        q.slots[which.value()].offer();
        port_.get_data(q.id, which, reinterpret_cast<std::uintptr_t>(memory),
                       token::io(place, which));
    }

    [[gnu::cold, gnu::noinline]] void unusual(token t, int answer) noexcept {
        if (t == token::wake()) {
            look_up();
        } else if (t.is_io()) {
            lose(at(t.place()).slots[t.which().value()], answer);
        } else if (t == token::of_queue(t.place())) {
            for (slot& each : at(t.place()).slots) {
                if (each.owned_by() == slot::owner::kernel) {
                    lose(each, answer);
                }
            }
        }
    }

    void lose(slot& gone, int answer) noexcept {
        gone.lose();
        --offered_;
        if (answer != uapi::io_res_abort && answer != -ECANCELED) {
            // A refused command leaves its request with us and would hang its client. Ending the
            // server makes the driver fail the request and the device, which somebody notices.
            failure_ = answer < 0 ? answer : -EPROTO;
            quit_ = true;
        }
    }

    [[nodiscard]] bool told(unsigned what) const noexcept {
        return (orders_.load(std::memory_order_relaxed) & what) != 0;
    }

    // Listens before it looks: what happens in between makes another event.
    void look_up() noexcept {
        port_.listen();
        quit_ = quit_ || told(orders::leave);
        if constexpr (async) {
            if (told(orders::leave | orders::refuse)) {
                tasks_.cancel();
            }
            tasks_.resume_returned();
        }
    }

    Backend& backend_;
    Port& port_;
    const std::atomic<unsigned>& orders_;
    std::span<queue> queues_;
    unsigned offered_ = 0;  ///< tags that the driver has not taken back
    unsigned waiting_ = 0;  ///< completions queued since the last system call
    int failure_ = 0;
    bool quit_ = false;
    [[no_unique_address]] std::conditional_t<lends, lender, no_lender> lender_;
    [[no_unique_address]] std::conditional_t<async, workshop<Port, finisher>, no_workshop> tasks_;
};

}  // namespace ublk::inline v0
