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

namespace ublk::inline v0 {

namespace detail {

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

}  // namespace detail

/// A port that moves tags in the driver's own batches (UBLK_F_BATCH_IO, Linux 7.0) and looks to a
/// server like any other. One event brings up to 128 tags; what is committed between two system
/// calls goes as one command a queue. `Wire` carries the three commands; `Addresses` says whether
/// the kernel copies, to and from memory that goes with each tag.
template <class Wire, bool Addresses>
class batch_port {
    using element =
        std::conditional_t<Addresses, detail::element_with_address, detail::bare_element>;
    using kind = token::batch_kind;

public:
    template <class Channel, class Waker>
    batch_port(const Channel& device, const Waker& rouse, const port_needs& needs)
        : wire_{device, rouse, needs}, flags_{needs.batch_flags} {
        for (const queue_id id : needs.queues) {
            lanes_.emplace_back(id, needs.depth);
        }
    }

    void fetch(queue_id, tag which, buffer_address buffer, token t) noexcept {
        add(which, 0, buffer, t.place());
    }
    void commit(queue_id, tag which, int result, buffer_address buffer, token t) noexcept {
        add(which, result, buffer, t.place());
    }
    void get_data(queue_id, tag, std::uint64_t, token) noexcept {
        UBLK_ASSERT(false, "with the driver's batches nobody asks where a write belongs");
    }
    void register_buffer(queue_id queue, tag which, std::uint16_t index) noexcept {
        wire_.register_buffer(queue, which, index);
    }
    void unregister_buffer(queue_id queue, tag which, std::uint16_t index) noexcept {
        wire_.unregister_buffer(queue, which, index);
    }
    void start(const operation& asked) noexcept { wire_.start(asked); }
    void cancel_operations() noexcept { wire_.cancel_operations(); }
    void listen() noexcept { wire_.listen(); }

    /// What was fetched so far goes to the driver: all tags of each queue.
    int flush_and_collect() noexcept {
        for (std::uint16_t place = 0; place < lanes_.size(); ++place) {
            lane& l = lanes_[place];
            const std::uint16_t all = static_cast<std::uint16_t>(l.filled() - l.handed);
            wire_.prepare_tags(header(l.id, all), l.elements.data(),
                               token::batch(kind::prepared, place, 0, all));
            wire_.fetch_tags(l.id, place, token::batch(kind::fetched, place));
            l.handed = l.answered = l.filled();
        }
        return wire_.flush_and_collect();
    }

    int flush() noexcept {
        hand_over();
        return wire_.flush();
    }

    int poll() noexcept {
        hand_over();
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
        hand_over();
        return wire_.wait(unanswered_ + 1);
    }

    template <class Consume>
    [[gnu::always_inline]] void drain(Consume&& consume) noexcept {
        wire_.drain([ this, &consume ](token t, int answer, std::uint32_t event)
                        __attribute__((always_inline)) {
                            if (t.kind() == kind::fetched) [[likely]] {
                                const std::uint16_t place = t.place();
                                for (const std::uint16_t which : wire_.tags(place, answer, event)) {
                                    pass_request(consume, place, tag{which});
                                }
                                wire_.give_back(place, answer, event);
                                if (!Wire::goes_on(event)) [[unlikely]] {
                                    fetch_ended(place, answer, consume);
                                }
                            } else if (t.kind() == kind::committed &&
                                       answer == static_cast<int>(t.count() * sizeof(element)) &&
                                       !lanes_[t.place()].ended) [[likely]] {
                                --unanswered_;
                                lanes_[t.place()].answered += t.count();
                            } else if (t.kind() == kind::none) {
                                consume(t, answer);
                            } else {
                                unusual(t, answer, consume);
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

        [[nodiscard]] element& at(std::uint32_t place) noexcept { return elements[place & mask]; }

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

    void add(tag which, int result, buffer_address buffer, std::uint16_t place) noexcept {
        lane& l = lanes_[place];
        element& next = l.fill();
        next.tag_and_index = which.value() | static_cast<std::uint32_t>(buffer.registration) << 16;
        next.result = result;
        next.address(buffer.memory);
    }

    // Not as an event, where that is understood: putting it together and taking it apart again is
    // a tenth of the work for a request.
    template <class Consume>
    [[gnu::always_inline]] static void pass_request(Consume& consume, std::uint16_t place,
                                                    tag which) noexcept {
        if constexpr (std::is_invocable_v<Consume&, std::uint16_t, tag>) {
            consume(place, which);
        } else {
            consume(token::io(place, which), uapi::io_res_ok);
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
    void hand_over() noexcept {
        for (std::uint16_t place = 0; place < lanes_.size(); ++place) {
            lane& l = lanes_[place];
            while (l.handed != l.filled()) {
                const std::uint32_t first = l.handed & l.mask;
                const std::uint32_t count = std::min(l.filled() - l.handed, l.mask + 1 - first);
                send(l, place, static_cast<std::uint16_t>(first),
                     static_cast<std::uint16_t>(count));
                l.handed += count;
            }
        }
    }

    void send(lane& l, std::uint16_t place, std::uint16_t first, std::uint16_t count) noexcept {
        wire_.commit_tags(header(l.id, count), &l.elements[first],
                          token::batch(kind::committed, place, 0, count));
        ++unanswered_;
    }

    // Without a buffer the driver stops telling of requests until it is asked anew.
    template <class Consume>
    [[gnu::cold, gnu::noinline]] void fetch_ended(std::uint16_t place, int answer,
                                                  Consume& consume) noexcept {
        lane& l = lanes_[place];
        if (answer >= 0 || answer == -ENOBUFS) {
            wire_.fetch_tags(l.id, place, token::batch(kind::fetched, place));
            return;
        }
        l.ended = true;
        for (std::uint32_t i = l.answered; i != l.filled(); ++i) {
            l.gone[l.at(i).tag()] = 1;  // with all others that the driver has
        }
        consume(token::of_queue(place), answer);
    }

    template <class Consume>
    [[gnu::cold, gnu::noinline]] void unusual(token t, int answer, Consume& consume) noexcept {
        lane& l = lanes_[t.place()];
        if (t.kind() == kind::prepared) {
            for (std::uint32_t i = 0; answer < 0 && i < t.count(); ++i) {
                consume(token::io(t.place(), tag{l.at(i).tag()}), answer);
            }
        } else if (t.kind() == kind::committed) {
            --unanswered_;
            settle(l, t, answer, consume);
        }
    }

    // The driver stops at an element that it does not take, and answers with how far it came.
    template <class Consume>
    void settle(lane& l, token t, int answer, Consume& consume) noexcept {
        constexpr int each = sizeof(element);
        std::uint32_t done = answer > 0 ? static_cast<std::uint32_t>(answer / each) : 0;
        const auto of = [&](std::uint32_t i) { return tag{l.at(l.answered + i).tag()}; };
        for (std::uint32_t i = 0; i < done && l.ended; ++i) {
            if (l.gone[of(i).value()] == 0) {  // what was still being served at the end
                l.gone[of(i).value()] = 1;
                consume(token::io(t.place(), of(i)), uapi::io_res_abort);
            }
        }
        if (answer < 0) {
            consume(token::io(t.place(), of(0)), answer);
            done = 1;
        }
        // What is left gets into the line again: it was not at fault.
        for (; done < t.count(); ++done) {
            l.fill() = l.at(l.answered + done);
        }
        l.answered += t.count();
    }

    // Before the ring, which goes first at the end: until then the driver may read elements.
    std::vector<lane> lanes_;
    Wire wire_;
    unsigned unanswered_ = 0;  ///< commits of which the kernel has not said how far it came
    std::uint16_t flags_;
};

}  // namespace ublk::inline v0
