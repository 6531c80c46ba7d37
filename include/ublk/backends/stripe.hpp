// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/decorator.hpp>
#include <ublk/backends/segments.hpp>
#include <ublk/backends/stripe_attributes.hpp>
#include <ublk/when_all.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

namespace detail {

/// The members of a stripe: one of each type, or any number of one type.
template <class... B>
class stripe_members {
public:
    explicit stripe_members(B... all) : all_{std::move(all)...} {}

    [[nodiscard]] static constexpr std::size_t count() noexcept { return sizeof...(B); }

    template <std::size_t I = 0, class Use>
    decltype(auto) with(std::size_t index, const Use& use) {
        if constexpr (I + 1 < sizeof...(B)) {
            if (index != I) {
                return with<I + 1>(index, use);
            }
        }
        return use(std::get<I>(all_));
    }
    [[nodiscard]] std::vector<disk_attributes> attributes() const {
        return std::apply([](const auto&... each) { return std::vector{attributes_of(each)...}; },
                          all_);
    }
    [[nodiscard]] auto& all() noexcept { return all_; }

private:
    std::tuple<B...> all_;
};

template <class B>
class stripe_members<B> {
public:
    explicit stripe_members(std::vector<B> all) noexcept : all_{std::move(all)} {}

    [[nodiscard]] std::size_t count() const noexcept { return all_.size(); }

    template <class Use>
    decltype(auto) with(std::size_t index, const Use& use) {
        return use(all_[index]);
    }
    [[nodiscard]] std::vector<disk_attributes> attributes() const {
        std::vector<disk_attributes> shown;
        for (const B& each : all_) {
            shown.push_back(attributes_of(each));
        }
        return shown;
    }
    [[nodiscard]] auto& all() noexcept { return all_; }

private:
    std::vector<B> all_;
};

/// FLUSH is for all of them, and for no bytes in particular.
struct every_member {
    std::size_t count;
    [[nodiscard]] std::uint64_t size() const noexcept { return count; }
    [[nodiscard]] share operator[](std::uint64_t nth) const noexcept {
        return {static_cast<std::size_t>(nth), 0, 0};
    }
};

/// How a stripe answers: now where all members do. FLUSH concerns those that have one.
template <class... B>
struct striped_answers {
    template <class Op, class... P>
    static constexpr answers of = [] {
        constexpr std::array each{answers_below<Op, B, P...>...};
        const auto some = [&](answers mode) {
            return std::find(each.begin(), each.end(), mode) != each.end();
        };
        const bool lacks = std::is_same_v<Op, operations::flush>
                               ? !some(answers::now) && !some(answers::later)
                               : some(answers::never);
        return lacks ? answers::never : some(answers::later) ? answers::later : answers::now;
    }();
    static constexpr bool read_only = (constantly_read_only<B>() || ...);
};

}  // namespace detail

namespace backends {

/// RAID 0: goes round its members chunk by chunk. `stripe<A, B, C>` has one of each type,
/// `stripe<B>` any number of one type; they may answer now or later. What lies beyond the size of
/// the smallest member, rounded down to chunks, is not used.
///
/// A request's parts go to their members at the same time, up to eight at once; all that were begun
/// are waited for, and the first failure in their order is the answer. An operation of which all
/// members answer now answers now. FLUSH goes to all members that have it, and FUA along with the
/// writes. The disk may be used by any number of threads that its members may be used by.
template <class... B>
class stripe : public detail::decorator<stripe<B...>, detail::striped_answers<B...>> {
    using base = detail::decorator<stripe, detail::striped_answers<B...>>;
    static constexpr unsigned lanes = 8;
    static constexpr std::size_t own_frame = 1024;  // of in_waves, which the tests measure

public:
    static_assert(sizeof...(B) != 0,
                  "ublk: a stripe needs members: stripe<B> or stripe<A, B, ...>");
    static_assert((check_backend<B>() && ...));
    static_assert((accepts<B, std::span<std::byte>> && ...) || (accepts<B, user_copy> && ...) ||
                      (accepts<B, registered_buffer> && ...),
                  "ublk: the members of a stripe must agree on a payload: give each a read and a "
                  "write that take a std::span<std::byte>");

    static constexpr unsigned operations_in_flight =
        std::max({1u, lanes* detail::operations_of<B>...});
    static constexpr std::size_t task_bytes =
        own_frame +
        lanes * (std::max({detail::frames_of<B>...}) + detail::kept_request::stack_bytes);

    /// `chunk` in bytes: a power of two, at least each member's logical block size and at most its
    /// size. Throws `error`, which names what is wrong.
    stripe(std::uint64_t chunk, std::vector<B>... members) requires(sizeof...(B) == 1)
        : stripe{detail::stripe_members<B...>{std::move(members)...}, chunk} {}
    stripe(std::uint64_t chunk, B... members) requires(sizeof...(B) > 1)
        : stripe{detail::stripe_members<B...>{std::move(members)...}, chunk} {}

    [[nodiscard]] std::uint64_t chunk() const noexcept { return chunk_; }

    /// A std::vector<B>, or a std::tuple<A, B, C>.
    [[nodiscard]] auto& members() noexcept { return members_.all(); }

    [[nodiscard]] std::vector<const registered_file*> ring_files() const {
        std::vector<const registered_file*> all;
        for (const disk_attributes& one : members_.attributes()) {
            all.insert(all.end(), one.ring_files.begin(), one.ring_files.end());
        }
        return all;
    }

    /// For the base class.
    template <class Op, class... P>
    [[nodiscard]] result now(const request& r, P... payload) {
        const auto parts = cut<Op>(r);
        for (std::uint64_t nth = 0; nth < parts.size(); ++nth) {
            const auto part = parts[nth];
            const result answer = members_.with(part.member, [&](auto& member) {
                return detail::call_operation_now<Op>(member, r.part(part.offset, part.bytes),
                                                      payload.subspan(part.from, part.bytes)...);
            });
            if (!answer.ok()) {
                return answer;
            }
        }
        return ok;
    }

    /// For the base class. What concerns one member only is that member's task.
    template <class Op, class... P>
    [[nodiscard]] task later(io& with, const request& r, P... payload) noexcept {
        const auto parts = cut<Op>(r);
        if (parts.size() == 1) {
            return begin<Op>(with, r, parts[0], payload...);
        }
        return in_waves<Op>(with, r, parts, payload...);
    }

private:
    stripe(detail::stripe_members<B...> members, std::uint64_t chunk)
        : base{detail::striped(members.attributes(), chunk)}, members_{std::move(members)},
          chunk_{chunk} {}

    /// What to ask of whom.
    template <class Op>
    [[nodiscard]] auto cut(const request& r) const noexcept {
        if constexpr (std::is_same_v<Op, operations::flush>) {
            return detail::every_member{members_.count()};
        } else if constexpr (std::is_same_v<Op, operations::read> ||
                             std::is_same_v<Op, operations::write>) {
            return segments{r.offset(), r.length(), chunk_, members_.count()};
        } else {
            return shares{r.offset(), r.length(), chunk_, members_.count()};
        }
    }

    template <class Op, class Part, class... P>
    [[nodiscard]] task begin(io& with, const request& r, const Part& part, P... payload) noexcept {
        return members_.with(part.member, [&]<class M>(M& member) -> task {
            const request piece = r.part(part.offset, part.bytes);
            if constexpr (Op::template mode<M, P...> == answers::later) {
                const detail::kept_request kept{with, piece};
                if (kept.get() == nullptr) {
                    return std::errc::io_error;
                }
                return detail::call_operation<Op>(ok, member, with, *kept.get(),
                                                  payload.subspan(part.from, part.bytes)...);
            } else {
                return detail::call_operation<Op>(ok, member, with, piece,
                                                  payload.subspan(part.from, part.bytes)...);
            }
        });
    }

    template <class Op, class Parts, std::size_t... Lane, class... P>
    [[nodiscard]] std::array<task, lanes> begin_wave(std::index_sequence<Lane...>, io& with,
                                                     const request& r, const Parts& parts,
                                                     std::uint64_t first, P... payload) noexcept {
        const auto in_lane = [&](std::uint64_t nth) -> task {
            return nth < parts.size() ? begin<Op>(with, r, parts[nth], payload...) : task{ok};
        };
        return {in_lane(first + Lane)...};
    }

    // A wave's tasks go before the next wave's come: a frame that is left below others would not
    // be given back, and the stack would grow with the number of parts.
    template <class Op, class Parts, class... P>
    task in_waves(io& with, const request& r, Parts parts, P... payload) {
        for (std::uint64_t first = 0; first < parts.size(); first += lanes) {
            std::array<task, lanes> wave = begin_wave<Op>(std::make_index_sequence<lanes>{}, with,
                                                          r, parts, first, payload...);
            const result answer = co_await when_all(std::span<task>{wave});
            if (!answer.ok()) {
                co_return answer;
            }
        }
        co_return ok;
    }

    detail::stripe_members<B...> members_;
    std::uint64_t chunk_;
};

template <class B>
stripe(std::uint64_t, std::vector<B>) -> stripe<B>;
template <class A, class B, class... More>
stripe(std::uint64_t, A, B, More...) -> stripe<A, B, More...>;

}  // namespace backends

}  // namespace ublk::inline v0
