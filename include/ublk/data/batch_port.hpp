// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>
#include <ublk/kernel/kernel.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace ublk::inline v0::detail {

/// uapi::elem_header in two words, as they are written.
struct bare_element {
    std::uint32_t tag_and_index = 0;
    std::int32_t result = 0;
    void address(std::uint64_t) noexcept {}
    [[nodiscard]] std::uint16_t tag() const noexcept {
        return static_cast<std::uint16_t>(tag_and_index);
    }
};

struct element_with_address : bare_element {
    std::uint64_t memory = 0;
    void address(std::uint64_t where) noexcept { memory = where; }
};

static_assert(sizeof(bare_element) == uapi::batch_elem_bytes(0));
static_assert(sizeof(element_with_address) ==
              uapi::batch_elem_bytes(uapi::batch_flag::has_buf_addr));

/// A port that moves tags in the driver's own batches (UBLK_F_BATCH_IO, Linux 7.0) and looks to a
/// server like any other. One event brings up to 128 tags; what is committed between two system
/// calls goes as one command a queue. `Wire` carries the three commands; `Addresses` says whether
/// the kernel copies, to and from memory that goes with each tag.
template <class Wire, bool Addresses>
class batch_port {
    using element = std::conditional_t<Addresses, element_with_address, bare_element>;
    using kind = user_data::batch_kind;

public:
    template <class Channel, class Wakeup>
    batch_port(const Channel& device, const Wakeup& wakeup, const port_needs& needs)
        : wire_{device, wakeup, needs}, flags_{needs.batch_flags} {
        for (const queue_id id : needs.queues) {
            lanes_.emplace_back(id, needs.depth);
        }
    }

    void fetch(queue_id, tag t, buffer_address buffer, user_data ud) noexcept {
        add(t, 0, buffer, ud.queue_index());
    }
    void commit(queue_id, tag t, int result, buffer_address buffer, user_data ud) noexcept {
        add(t, result, buffer, ud.queue_index());
    }
    void get_data(queue_id, tag, std::uint64_t, user_data) noexcept {
        UBLK_ASSERT(false, "with the driver's batches nobody asks where a write belongs");
    }
    void register_buffer(queue_id queue, tag t, std::uint16_t index) noexcept {
        wire_.register_buffer(queue, t, index);
    }
    void unregister_buffer(queue_id queue, tag t, std::uint16_t index) noexcept {
        wire_.unregister_buffer(queue, t, index);
    }
    void start(const operation& requested) noexcept { wire_.start(requested); }
    void cancel_operations() noexcept { wire_.cancel_operations(); }
    void listen() noexcept { wire_.listen(); }

    /// What was fetched so far goes to the driver: all tags of each queue.
    int flush_and_collect() noexcept {
        for (std::uint16_t queue_index = 0; queue_index < lanes_.size(); ++queue_index) {
            lane& l = lanes_[queue_index];
            const std::uint16_t all = static_cast<std::uint16_t>(l.filled() - l.handed);
            const user_data ud = user_data::batch(kind::prepared, queue_index, 0, all);
            wire_.prepare_tags(header(l.id, all), l.elements.data(), ud);
            wire_.fetch_tags(l.id, queue_index, user_data::batch(kind::fetched, queue_index));
            l.handed = l.answered = l.filled();
        }
        return wire_.flush_and_collect();
    }

    int flush() noexcept {
        offload();
        return wire_.flush();
    }

    int poll() noexcept {
        offload();
        return wire_.flush_and_collect();
    }
    [[nodiscard]] bool has_events() const noexcept { return wire_.has_events(); }
    [[nodiscard]] bool ready() noexcept {
        return wire_.ready() || std::any_of(lanes_.begin(), lanes_.end(),
                                            [](const lane& l) { return l.handed != l.filled(); });
    }
    [[nodiscard]] deadline now() const noexcept { return wire_.now(); }

    /// The answers to the commits come at once, and nobody wakes up for those alone.
    int wait() noexcept {
        offload();
        return wire_.wait(unanswered_ + 1);
    }

    template <class Consume>
    [[gnu::always_inline]] void drain(Consume&& consume) noexcept {
        wire_.drain([ this, &consume ](user_data ud, int answer,
                                       std::uint32_t event) __attribute__((always_inline)) {
            if (ud.kind() == kind::fetched) [[likely]] {
                const std::uint16_t queue_index = ud.queue_index();
                for (const std::uint16_t each : wire_.tags(queue_index, answer, event)) {
                    pass_request(consume, queue_index, tag{each});
                }
                wire_.give_back(queue_index, answer, event);
                if (!Wire::goes_on(event)) [[unlikely]] {
                    fetch_ended(queue_index, answer, consume);
                }
            } else if (ud.kind() == kind::committed &&
                       answer == static_cast<int>(ud.count() * sizeof(element)) &&
                       !lanes_[ud.queue_index()].ended) [[likely]] {
                --unanswered_;
                lanes_[ud.queue_index()].answered += ud.count();
            } else if (ud.kind() == kind::none) {
                consume(ud, answer);
            } else {
                unusual(ud, answer, consume);
            }
        });
    }

    [[nodiscard]] unsigned ring_flags() const noexcept { return wire_.ring_flags(); }

private:
    /// The elements of one queue, in the order in which they are filled, handed over and answered;
    /// places are counted on for ever. A tag is in at most one that is not answered, so there is
    /// room for all with as many as there are tags.
    struct lane {
        lane(queue_id queue, unsigned depth)
            : elements(std::bit_ceil(depth)),
              gone(depth), next{elements.data()}, end{next + elements.size()},
              mask{static_cast<std::uint32_t>(elements.size() - 1)}, id{queue} {}

        [[nodiscard]] element& at(std::uint32_t queue_index) noexcept {
            return elements[queue_index & mask];
        }

        /// Where the next one goes.
        [[nodiscard]] element& fill() noexcept {
            element& filling = *next;
            if (++next == end) [[unlikely]] {
                next = elements.data();
                before += mask + 1;
            }
            return filling;
        }
        [[nodiscard]] std::uint32_t filled() const noexcept {
            return before + static_cast<std::uint32_t>(next - elements.data());
        }

        std::vector<element> elements;
        std::vector<std::uint8_t> gone;  ///< 1 for tags of which the server knows, after the end
        element* next;
        element* end;
        std::uint32_t mask;
        std::uint32_t before = 0;  ///< filled on earlier laps
        std::uint32_t handed = 0;
        std::uint32_t answered = 0;
        queue_id id;
        bool ended = false;  ///< the driver tells of no request any more
    };

    void add(tag t, int result, buffer_address buffer, std::uint16_t queue_index) noexcept {
        lane& l = lanes_[queue_index];
        element& next = l.fill();
        next.tag_and_index = t.value() | static_cast<std::uint32_t>(buffer.registration) << 16;
        next.result = result;
        next.address(buffer.memory);
    }

    // Not as an event, where that is understood: putting it together and taking it apart again is
    // a tenth of the work for a request.
    template <class Consume>
    [[gnu::always_inline]] static void pass_request(Consume& consume, std::uint16_t queue_index,
                                                    tag t) noexcept {
        if constexpr (std::is_invocable_v<Consume&, std::uint16_t, tag>) {
            consume(queue_index, t);
        } else {
            consume(user_data::io(queue_index, t), uapi::io_res_ok);
        }
    }

    [[nodiscard]] uapi::batch_io header(queue_id id, std::uint16_t count) const noexcept {
        uapi::batch_io command;
        command.q_id = id.value();
        command.flags = flags_;
        command.nr_elem = count;
        command.elem_bytes = sizeof(element);
        return command;
    }

    // What goes around the end of the array takes two commands.
    void offload() noexcept {
        for (std::uint16_t queue_index = 0; queue_index < lanes_.size(); ++queue_index) {
            lane& l = lanes_[queue_index];
            if (l.filled() - l.handed == 1 && l.answered == l.handed && !l.ended) {
                send_single(l, queue_index);
                continue;
            }
            while (l.handed != l.filled()) {
                const std::uint32_t first = l.handed & l.mask;
                const std::uint32_t count = std::min(l.filled() - l.handed, l.mask + 1 - first);
                send(l, queue_index, static_cast<std::uint16_t>(first),
                     static_cast<std::uint16_t>(count));
                l.handed += count;
            }
        }
    }

    // One element is taken or not, which the lack of an event says as well: the thread waits for
    // requests alone. It stays in place until its tag has another, which a refusal comes before.
    void send_single(lane& l, std::uint16_t queue_index) noexcept {
        const std::uint32_t first = l.handed & l.mask;
        wire_.commit_single(
            header(l.id, 1), &l.elements[first],
            user_data::batch(kind::single, queue_index, static_cast<std::uint16_t>(first), 1));
        l.answered = ++l.handed;
    }

    void send(lane& l, std::uint16_t queue_index, std::uint16_t first,
              std::uint16_t count) noexcept {
        wire_.commit_tags(header(l.id, count), &l.elements[first],
                          user_data::batch(kind::committed, queue_index, 0, count));
        ++unanswered_;
    }

    // Without a buffer the driver stops telling of requests until it is asked anew.
    template <class Consume>
    [[gnu::cold, gnu::noinline]] void fetch_ended(std::uint16_t queue_index, int answer,
                                                  Consume& consume) noexcept {
        lane& l = lanes_[queue_index];
        if (answer >= 0 || answer == -ENOBUFS) {
            wire_.fetch_tags(l.id, queue_index, user_data::batch(kind::fetched, queue_index));
            return;
        }
        l.ended = true;
        for (std::uint32_t i = l.answered; i != l.filled(); ++i) {
            l.gone[l.at(i).tag()] = 1;  // with all others that the driver has
        }
        consume(user_data::of_queue(queue_index), answer);
    }

    template <class Consume>
    [[gnu::cold, gnu::noinline]] void unusual(user_data ud, int answer, Consume& consume) noexcept {
        lane& l = lanes_[ud.queue_index()];
        if (ud.kind() == kind::prepared) {
            for (std::uint32_t i = 0; answer < 0 && i < ud.count(); ++i) {
                consume(user_data::io(ud.queue_index(), tag{l.at(i).tag()}), answer);
            }
        } else if (ud.kind() == kind::committed) {
            --unanswered_;
            settle(l, ud, answer, consume);
        } else if (ud.kind() == kind::single && answer < 0) {
            consume(user_data::io(ud.queue_index(), tag{l.elements[ud.first()].tag()}), answer);
        }
    }

    // The driver stops at an element that it does not take, and answers with how far it came.
    template <class Consume>
    void settle(lane& l, user_data ud, int answer, Consume& consume) noexcept {
        constexpr int each = sizeof(element);
        std::uint32_t done = answer > 0 ? static_cast<std::uint32_t>(answer / each) : 0;
        const auto of = [&](std::uint32_t i) { return tag{l.at(l.answered + i).tag()}; };
        for (std::uint32_t i = 0; i < done && l.ended; ++i) {
            if (l.gone[of(i).value()] == 0) {  // what was still being served at the end
                l.gone[of(i).value()] = 1;
                consume(user_data::io(ud.queue_index(), of(i)), uapi::io_res_abort);
            }
        }
        if (answer < 0) {
            consume(user_data::io(ud.queue_index(), of(0)), answer);
            done = 1;
        }
        // What is left gets into the line again: it was not at fault.
        for (; done < ud.count(); ++done) {
            l.fill() = l.at(l.answered + done);
        }
        l.answered += ud.count();
    }

    // Before the ring, which goes first at the end: until then the driver may read elements.
    std::vector<lane> lanes_;
    Wire wire_;
    unsigned unanswered_ = 0;  ///< commits of which the kernel has not said how far it came
    std::uint16_t flags_;
};

}  // namespace ublk::inline v0::detail
