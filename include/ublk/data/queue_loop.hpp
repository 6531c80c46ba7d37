// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>
#include <ublk/coroutine/coroutine_runtime.hpp>
#include <ublk/data/batch_counter.hpp>
#include <ublk/data/completion.hpp>
#include <ublk/data/data_paths.hpp>
#include <ublk/data/dispatch.hpp>
#include <ublk/data/failure_notes.hpp>
#include <ublk/data/get_data.hpp>
#include <ublk/data/loop_context.hpp>
#include <ublk/data/loop_state.hpp>
#include <ublk/data/queue.hpp>
#include <ublk/data/queue_progress.hpp>
#include <ublk/data/unusual_transfer.hpp>
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

namespace ublk::inline v0::detail {

/// The loop of one thread: event -> descriptor -> backend -> commit, over the queues that it
/// serves. With `SingleQueue` there is one, so that no event is asked for its queue.
template <class Backend, class BatchPolicy, class Port, bool SingleQueue, class Path = paths::copy,
          class Waiting = waits::block, class Measuring = no_stats>
class queue_loop {
    static_assert(batch_policy<BatchPolicy>,
                  "ublk: a batch policy needs: static bool due(unsigned waiting) noexcept;");
    static constexpr bool gets_data = Path::id == data_path::get_data;
    static constexpr bool async = asynchronous<Backend, typename Path::payload>;

    using loop_context = ublk::detail::loop_context<Port, SingleQueue>;
    using event_handler = ublk::detail::event_handler<queue_loop, loop_context>;
    using index = std::uint16_t;  // of a queue among those of the thread
    friend event_handler;

    struct finisher {
        queue_loop* of;
        void operator()(tag_coroutine& ended) const noexcept { of->finish(ended); }
    };
    using get_data_of = std::conditional_t<gets_data, get_data_state, no_get_data_state>;
    using runtime = coroutine_runtime<Port, finisher>;
    using tasks_of = std::conditional_t<async, runtime, no_coroutine_runtime>;

public:
    /// All outlive it, and the queues the port as well. `record` is one of Measuring's.
    queue_loop(Backend& backend, Port& port, std::span<queue> queues,
               const std::atomic<unsigned>& flags = loop_flags::always_serve,
               wakeup_call wakeup = {}, loop_timing limits = {}, void* record = nullptr,
               queue_progress& progress = unwatched_progress())
        : backend_{backend}, port_{port}, queues_{queues}, state_{flags}, limits_{limits},
          progress_{progress}, tasks_{port, wakeup, finisher{this}}, meter_{record,
                                                                            tags_of(queues)} {
        for (const queue& each : queues_) {
            tasks_.add_queue(static_cast<unsigned>(each.tag_states.size()), task_bytes<Backend>);
            get_data_.add_queue(each.tag_states.size());
        }
    }

    queue_loop(queue_loop&&) = delete;

    /// Offers every tag to the driver. Returns 0, or the errno (negative) of a refusal.
    [[nodiscard]] int fetch_all() noexcept {
        context().template fetch_all<Path>(queues_.size(), state_);
        const int code = port_.flush_and_collect();
        // A refused FETCH is answered at once. Unnoticed, it would make START_DEV wait for ever.
        collect();
        return state_.failure() != 0 ? state_.failure() : enters_again(code) ? 0 : code;
    }

    /// Serves until the driver has taken back every tag, it is ordered to leave, or the ring fails.
    /// Returns 0, or what went wrong (negative errno).
    [[nodiscard]] int run() noexcept {
        while (goes_on()) {
            turn(Waiting::wait(port_, limits_));
        }
        return end();
    }

    [[nodiscard]] bool goes_on() noexcept { return state_.open() || winds_up(); }

    /// Takes what `wait` or `poll` of the port returned.
    [[gnu::always_inline]] void turn(int code) noexcept {
        batch_counter_.gone();
        enters_again(code) ? collect() : state_.fail(code);
    }

    /// After the last turn. Returns as `run`.
    [[nodiscard]] int end() noexcept {
        if constexpr (async) {
            tasks_.busy() ? tasks_.leave_behind() : tasks_.abandon();
        }
        (void)port_.flush();  // the last answers, if we leave before the driver does
        return state_.failure();
    }

    /// After the end: others may still use this and the bytes of its tags.
    [[nodiscard]] bool left_behind() const noexcept { return tasks_.left_behind(); }

private:
    loop_context context() noexcept { return {port_, queues_.data(), state_.flags()}; }

    /// The hot loop: everything from the events to the queued commits is in this one function,
    /// which a test disassembles.
    [[gnu::noinline, gnu::flatten]] void collect() noexcept {
        meter_.turn_begins(port_);
        port_.drain(event_handler{*this, context()});
        meter_.turn_ends();
    }

    /// Hands the answer for a tag that is the kernel's again to the port.
    [[gnu::always_inline]] void complete(const loop_context& with, index queue_index,
                                         const request& r, result answer) noexcept {
        const tag_ref here = with.tag_at(queue_index, r.tag());
        buffer_address where = Path::address(here);
        if constexpr (gets_data) {
            where.memory = get_data_.for_read(backend_, r, answer);
        }
        with.port.commit(here.queue.id, here.tag, driver_answer(r, answer), where,
                         user_data::io(queue_index, here.tag));
        meter_.answered(port_, SingleQueue ? 0 : queue_index, here.index, r, answer);
        if (batch_counter_.another(port_, limits_)) {
            (void)port_.flush();  // what is wrong now shows again at the wait, which reports it
            batch_counter_.gone();
        }
    }

    /// Events that only some backends have.
    [[gnu::always_inline]] bool expected(const loop_context& with, user_data ud,
                                         int answer) noexcept {
        if constexpr (async) {
            if (ud.is_operation()) [[likely]] {
                tasks_.resume(ud.operation_of(), answer);
                return true;
            }
        }
        if constexpr (gets_data) {
            if (ud.is_io() && answer == uapi::io_res_need_get_data) [[likely]] {
                ask_for_data(with, ud.queue_index(), ud.tag());
                return true;
            }
        }
        return false;
    }

    [[gnu::always_inline]] void serve(const event_handler& by, index queue_index, tag t) noexcept {
        const tag_ref here = by.context.tag_at(queue_index, t);
        tag_state& state = by.context.at(queue_index).tag_states[t.value()];
        async ? state.to_server() : state.to_server_and_back();
        const request r{here.queue.descriptor(t), here.queue.id, t};
        // Two copies of what follows where that is short: each knows of what kind its request is.
        if (!async && r.carries_data()) [[likely]] {
            serve(by, queue_index, here, r, r.length());
        } else {
            serve(by, queue_index, here, r, r.carries_data() ? r.length() : 0);
        }
    }

    [[gnu::always_inline]] void serve(const event_handler& by, index queue_index,
                                      const tag_ref& here, const request& r,
                                      std::size_t bytes) noexcept {
        if (!in_place(bytes) || r.op() != uapi::op::write) {  // else when it asked for its data
            meter_.took(queue_index, here.index);
        }
        constexpr unsigned flags = loop_flags::refuse | (async ? 0 : loop_flags::report);
        const bool unusual =
            seldom(exceeds_buffer<Path>(here, bytes)) || seldom(by.context.has_flag(flags));
        if constexpr (async) {
            begin(queue_index, here, r, bytes, unusual);
        } else {
            // Without the promise g++ 12 takes 69 instructions for a read of null, instead of 65.
            promise<const event_handler> pending{by, queue_index, r};
            !unusual ? std::move(pending).fulfil(answer(here, r, bytes, Path::bytes(here, bytes)))
                     : std::move(pending).fulfil(answer_unusual(queue_index, here.tag));
        }
    }

    // Somebody waits for the end of the device, or there are no tag buffers.
    [[gnu::noinline, gnu::flatten]] result answer_unusual(index queue_index, tag t) noexcept {
        const tag_ref here = context().tag_at(queue_index, t);
        const request r{here.queue.descriptor(t), here.queue.id, t};
        const std::size_t bytes = r.carries_data() ? r.length() : 0;
        const bool refused = state_.has_flag(loop_flags::refuse);
        progress_.note_answer();  // of the request before, for which it was too early
        const unusual_transfer<Path> moved{here, r, bytes};
        result outcome = refused ? result{std::errc::io_error} : moved.before();
        outcome = outcome.ok() ? moved.after(answer(here, r, bytes, moved.payload())) : outcome;
        progress_.note_end(r, outcome, refused);
        return outcome;
    }

    [[gnu::always_inline]] result answer(const tag_ref& here, const request& r, std::size_t bytes,
                                         const typename Path::payload& payload) noexcept {
        return in_place(bytes) ? get_data_.arrived(r, here.index)
                               : dispatch(backend_, r, payload, note_thrown{progress_});
    }

    /// Whether the kernel copies these bytes straight from and to the backend's memory.
    static constexpr bool in_place(std::size_t bytes) noexcept { return gets_data && bytes != 0; }

    void begin(index queue_index, const tag_ref& here, const request& r, std::size_t bytes,
               bool refused) noexcept {
        tag_coroutine& work = tasks_.work(SingleQueue ? 0 : queue_index, here.tag);
        work.current = r;
        if (refused || in_place(bytes)) {
            tasks_.begin(work, refused ? std::errc::io_error : get_data_.arrived(r, here.index));
        } else {
            if (bytes != 0 && registers_itself(Path::id, r)) {
                port_.register_buffer(here.queue.id, here.tag, here.index);
                work.registered = true;
            }
            tasks_.begin(work, dispatch(backend_, work, work.current, Path::bytes(here, bytes)));
        }
    }

    void finish(tag_coroutine& work) noexcept {
        const result answer = work.running.answer();
        if (seldom(work.frames().has_failures())) {
            note_failures(progress_, work.current, work.frames());
        }
        if (seldom(state_.has_flag(loop_flags::refuse | loop_flags::report))) {
            progress_.note_end(work.current, answer, state_.has_flag(loop_flags::refuse));
        }
        work.running = task{ok};
        if (registers_requests(Path::id) && std::exchange(work.registered, false)) {
            const tag_ref here = context().tag_at(work.queue_index, work.current.tag());
            port_.unregister_buffer(here.queue.id, here.tag, here.index);
        }
        context().at(work.queue_index).tag_states[work.current.tag().value()].to_driver();
        complete(context(), work.queue_index, work.current, answer);
    }

    /// Nothing more is served, but what the backend has in flight must end all the same.
    [[nodiscard, gnu::cold]] bool winds_up() noexcept {
        tasks_.cancel();
        return tasks_.busy() && !state_.lost();
    }

    /// A write: says where its bytes belong, upon which the kernel puts them there.
    [[gnu::always_inline]] void ask_for_data(const loop_context& with, index queue_index,
                                             tag t) noexcept {
        const tag_ref here = with.tag_at(queue_index, t);
        with.at(queue_index).tag_states[t.value()].to_server_and_back();
        const request r{here.queue.descriptor(t), here.queue.id, t};
        meter_.took(SingleQueue ? 0 : queue_index, here.index);
        const std::byte* const memory = get_data_.for_write(backend_, r, here.index);
        if (memory == nullptr || with.has_flag(loop_flags::refuse)) [[unlikely]] {
            progress_.note_end(r, std::errc::io_error, with.has_flag(loop_flags::refuse));
            complete(with, queue_index, r, std::errc::io_error);
            return;
        }
        with.port.get_data(here.queue.id, t, reinterpret_cast<std::uintptr_t>(memory),
                           user_data::io(queue_index, t));
    }

    [[gnu::cold, gnu::noinline]] void unusual(user_data ud, int answer) noexcept {
        // Cancelled with what a backend polls, or its eventfd is gone.
        if (ud == user_data::wake()) {
            answer >= 0 || answer == -ECANCELED ? look_up() : state_.fail(answer);
        } else if (ud.is_io()) {
            state_.lose(context().at(ud.queue_index()).tag_states[ud.tag().value()], answer);
        } else if (ud == user_data::of_queue(ud.queue_index())) {
            state_.lose_all(context().at(ud.queue_index()), answer);
        }
    }

    // Listens before it looks: what happens in between makes another event.
    void look_up() noexcept {
        port_.listen();
        state_.look_up();
        if (state_.has_flag(loop_flags::leave | loop_flags::refuse)) {
            tasks_.cancel();
        }
        tasks_.resume_completed();
    }

    Backend& backend_;
    Port& port_;
    std::span<queue> queues_;
    loop_state state_;
    loop_timing limits_;
    queue_progress& progress_;
    [[no_unique_address]] batch_counter<BatchPolicy> batch_counter_;
    [[no_unique_address]] get_data_of get_data_;
    [[no_unique_address]] tasks_of tasks_;
    [[no_unique_address]] typename Measuring::meter meter_;
};

}  // namespace ublk::inline v0::detail
