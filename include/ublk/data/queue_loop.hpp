// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>
#include <ublk/coroutine/coroutine_runtime.hpp>
#include <ublk/data/batch_counter.hpp>
#include <ublk/data/completion.hpp>
#include <ublk/data/copy.hpp>
#include <ublk/data/dispatch.hpp>
#include <ublk/data/failure_notes.hpp>
#include <ublk/data/get_data.hpp>
#include <ublk/data/loop_context.hpp>
#include <ublk/data/queue.hpp>
#include <ublk/data/queue_progress.hpp>
#include <ublk/kernel/user_data.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/loop_timing.hpp>
#include <ublk/policy/measuring.hpp>
#include <ublk/policy/wait.hpp>

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
template <class Backend, class BatchPolicy, class Port, bool SingleQueue, class Path = paths::copy,
          class Waiting = waits::block, class Measuring = no_stats>
class server {
    static_assert(batch_policy<BatchPolicy>,
                  "ublk: a batch policy needs: static bool due(unsigned waiting) noexcept;");
    static constexpr bool lends = Path::id == data_path::lend;
    static constexpr bool async = asynchronous<Backend, typename Path::payload>;

    using at_hand = ublk::at_hand<Port, SingleQueue>;
    using receiver = ublk::receiver<server, at_hand>;
    friend receiver;

    struct finisher {
        server* of;
        void operator()(tag_work& ended) const noexcept { of->finish(ended); }
    };

public:
    /// All outlive the server, and the queues the port as well. `record` is one of Measuring's.
    server(Backend& backend, Port& port, std::span<queue> queues,
           const std::atomic<unsigned>& orders = orders::always_serve, rouser rouse = {},
           pace limits = {}, void* record = nullptr,
           queue_progress& progress = unwatched_progress())
        : backend_{backend}, port_{port}, queues_{queues}, ledger_{orders}, limits_{limits},
          progress_{progress}, tasks_{port, rouse, finisher{this}}, meter_{record,
                                                                           tags_of(queues)} {
        for (const queue& each : queues_) {
            tasks_.add_queue(static_cast<unsigned>(each.slots.size()), task_bytes<Backend>);
            lender_.add_queue(each.slots.size());
        }
    }

    server(const server&) = delete;
    server& operator=(const server&) = delete;

    /// Offers every tag to the driver. Returns 0, or the errno (negative) of a refusal.
    [[nodiscard]] int fetch_all() noexcept {
        fetch_tags<Path>(hand(), queues_, ledger_);
        const int code = port_.flush_and_collect();
        // A refused FETCH is answered at once. Unnoticed, it would make START_DEV wait for ever.
        collect();
        return ledger_.failure() != 0 ? ledger_.failure() : enters_again(code) ? 0 : code;
    }

    /// Serves until the driver has taken back every tag, it is ordered to leave, or the ring fails.
    /// Returns 0, or what went wrong (negative errno).
    [[nodiscard]] int run() noexcept {
        while (goes_on()) {
            turn(Waiting::wait(port_, limits_));
        }
        return end();
    }

    [[nodiscard]] bool goes_on() noexcept { return ledger_.open() || winds_up(); }

    /// Takes what `wait` or `poll` of the port returned.
    [[gnu::always_inline]] void turn(int code) noexcept {
        held_back_.gone();
        if (enters_again(code)) [[likely]] {
            collect();
        } else {
            ledger_.fail(code);
        }
    }

    /// After the last turn. Returns as `run`.
    [[nodiscard]] int end() noexcept {
        if constexpr (async) {
            tasks_.busy() ? tasks_.leave_behind() : tasks_.abandon();
        }
        (void)port_.flush();  // the last answers, if we leave before the driver does
        return ledger_.failure();
    }

    /// After the end: others may still use this server and the bytes of its tags.
    [[nodiscard]] bool left_behind() const noexcept { return tasks_.left_behind(); }

private:
    at_hand hand() noexcept { return {port_, queues_.data(), ledger_.orders()}; }

    /// The hot loop: everything from the events to the queued commits is in this one function,
    /// which a test disassembles.
    [[gnu::noinline, gnu::flatten]] void collect() noexcept {
        meter_.turn_begins(port_);
        port_.drain(receiver{*this, hand()});
        meter_.turn_ends();
    }

    /// Hands the answer for a tag that is the kernel's again to the port.
    [[gnu::always_inline]] void complete(const at_hand& with, std::uint16_t place, const request& r,
                                         result answer) noexcept {
        const tag_place here = with.spot(place, r.tag());
        buffer_address where = Path::address(here);
        if constexpr (lends) {
            where.memory = lender_.for_read(backend_, r, answer);
        }
        with.port.commit(here.of.id, here.which, driver_answer(r, answer), where,
                         token::io(place, here.which));
        meter_.answered(port_, SingleQueue ? 0 : place, here.index, r, answer);
        if (held_back_.another(port_, limits_)) {
            // Whatever is wrong now shows again at the wait, which reports it.
            (void)port_.flush();
            held_back_.gone();
        }
    }

    /// Events that only some backends have.
    [[gnu::always_inline]] bool expected(const at_hand& with, token t, int answer) noexcept {
        if constexpr (async) {
            if (t.is_operation()) [[likely]] {
                tasks_.go_on(t.which_operation(), answer);
                return true;
            }
        }
        if constexpr (lends) {
            if (t.is_io() && answer == uapi::io_res_need_get_data) [[likely]] {
                ask_for_data(with, t.place(), t.which());
                return true;
            }
        }
        return false;
    }

    [[gnu::always_inline]] void serve(const receiver& by, std::uint16_t place, tag which) noexcept {
        const tag_place here = by.hand.spot(place, which);
        slot& its = by.hand.at(place).slots[which.value()];
        async ? its.take() : its.pass();
        const request r{here.of.descriptor(which), here.of.id, which};
        // Two copies of what follows where that is short: each knows of what kind its request is.
        if (!async && r.carries_data()) [[likely]] {
            serve(by, place, here, r, r.length());
        } else {
            serve(by, place, here, r, r.carries_data() ? r.length() : 0);
        }
    }

    [[gnu::always_inline]] void serve(const receiver& by, std::uint16_t place,
                                      const tag_place& here, const request& r,
                                      std::size_t bytes) noexcept {
        if (!in_place(bytes) || r.op() != uapi::op::write) {  // else when it asked for its data
            meter_.took(place, here.index);
        }
        const bool unusual =
            detail::seldom(exceeds_buffer<Path>(here, bytes)) ||
            detail::seldom(by.hand.told(async ? orders::refuse : orders::refuse | orders::report));
        if constexpr (async) {
            begin(place, here, r, bytes, unusual);
        } else {
            promise<const receiver> duty{by, place, r};
            !unusual ? std::move(duty).fulfil(answer(here, r, bytes))
                     : std::move(duty).fulfil(answer_to_the_end(place, here.which));
        }
    }

    // Somebody waits for the end of the device.
    [[gnu::cold, gnu::noinline, gnu::flatten]] result answer_to_the_end(std::uint16_t place,
                                                                        tag which) noexcept {
        const tag_place here = hand().spot(place, which);
        const request r{here.of.descriptor(which), here.of.id, which};
        const std::size_t bytes = r.carries_data() ? r.length() : 0;
        const bool refused = ledger_.told(orders::refuse);
        progress_.note_answer();  // of the request before, for which it was too early
        const result said = refused || exceeds_buffer<Path>(here, bytes)
                                ? result{std::errc::io_error}
                                : answer(here, r, bytes);
        progress_.note_end(r, said, refused);
        return said;
    }

    [[gnu::always_inline]] result answer(const tag_place& here, const request& r,
                                         std::size_t bytes) noexcept {
        return in_place(bytes) ? lender_.arrived(r, here.index)
                               : dispatch(backend_, r, Path::bytes(here, bytes),
                                          detail::note_thrown{progress_});
    }

    /// Whether the kernel copies these bytes straight from and to the backend's memory.
    static constexpr bool in_place(std::size_t bytes) noexcept { return lends && bytes != 0; }

    void begin(std::uint16_t place, const tag_place& here, const request& r, std::size_t bytes,
               bool refused) noexcept {
        tag_work& work = tasks_.work(SingleQueue ? 0 : place, here.which);
        work.asked = r;
        if (refused || in_place(bytes)) {
            tasks_.begin(work, refused ? std::errc::io_error : lender_.arrived(r, here.index));
        } else {
            if (bytes != 0 && registers_itself(Path::id, r)) {
                port_.register_buffer(here.of.id, here.which, here.index);
                work.registered = true;
            }
            tasks_.begin(work, dispatch(backend_, work, work.asked, Path::bytes(here, bytes)));
        }
    }

    void finish(tag_work& work) noexcept {
        const result answer = work.running.answer();
        if (detail::seldom(work.frames().troubled())) {
            detail::note_troubles(progress_, work.asked, work.frames());
        }
        if (detail::seldom(ledger_.told(orders::refuse | orders::report))) {
            progress_.note_end(work.asked, answer, ledger_.told(orders::refuse));
        }
        work.running = task{ok};
        if (registers_requests(Path::id) && std::exchange(work.registered, false)) {
            const tag_place here = hand().spot(work.place, work.asked.tag());
            port_.unregister_buffer(here.of.id, here.which, here.index);
        }
        hand().at(work.place).slots[work.asked.tag().value()].offer();
        complete(hand(), work.place, work.asked, answer);
    }

    /// Nothing more is served, but what the backend has in flight must end all the same.
    [[nodiscard, gnu::cold]] bool winds_up() noexcept {
        tasks_.cancel();
        return tasks_.busy() && !ledger_.lost();
    }

    /// A write: says where its bytes belong, upon which the kernel puts them there.
    [[gnu::always_inline]] void ask_for_data(const at_hand& with, std::uint16_t place,
                                             tag which) noexcept {
        const tag_place here = with.spot(place, which);
        with.at(place).slots[which.value()].pass();
        const request r{here.of.descriptor(which), here.of.id, which};
        meter_.took(SingleQueue ? 0 : place, here.index);
        const std::byte* const memory = lender_.for_write(backend_, r, here.index);
        if (memory == nullptr || with.told(orders::refuse)) [[unlikely]] {
            progress_.note_end(r, std::errc::io_error, with.told(orders::refuse));
            complete(with, place, r, std::errc::io_error);
            return;
        }
        with.port.get_data(here.of.id, which, reinterpret_cast<std::uintptr_t>(memory),
                           token::io(place, which));
    }

    [[gnu::cold, gnu::noinline]] void unusual(token t, int answer) noexcept {
        if (t == token::wake()) {  // cancelled with what a backend polls, or its eventfd is gone
            answer >= 0 || answer == -ECANCELED ? look_up() : ledger_.fail(answer);
        } else if (t.is_io()) {
            ledger_.lose(hand().at(t.place()).slots[t.which().value()], answer);
        } else if (t == token::of_queue(t.place())) {
            ledger_.lose_all(hand().at(t.place()), answer);
        }
    }

    // Listens before it looks: what happens in between makes another event.
    void look_up() noexcept {
        port_.listen();
        ledger_.look_up();
        if (ledger_.told(orders::leave | orders::refuse)) {
            tasks_.cancel();
        }
        tasks_.resume_returned();
    }

    Backend& backend_;
    Port& port_;
    std::span<queue> queues_;
    ledger ledger_;
    pace limits_;
    queue_progress& progress_;
    [[no_unique_address]] held_back<BatchPolicy> held_back_;
    [[no_unique_address]] std::conditional_t<lends, lender, no_lender> lender_;
    [[no_unique_address]] std::conditional_t<async, workshop<Port, finisher>, no_workshop> tasks_;
    [[no_unique_address]] typename Measuring::meter meter_;
};

}  // namespace ublk::inline v0
