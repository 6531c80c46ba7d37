// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/decorator.hpp>
#include <ublk/backends/fault_plan.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

namespace detail {

/// Everything may be delayed, so everything answers later.
template <class B>
struct faulty_answers {
    template <class Op, class... P>
    static constexpr answers of = answers_if(Op::template mode<B, P...> != answers::never, true);
    static constexpr bool read_only = constantly_read_only<B>();
};

}  // namespace detail

namespace backends {

/// Any backend, with faults: errors, delays, torn and split transfers, and the server's death, by
/// rules or by a seed (fault_plan.hpp). What it shows of itself is what B shows.
///
/// All its functions are asynchronous, also where those of B answer at once, since each may have to
/// wait; a request that nothing happens to is B's own task or answer, without a coroutine more. B's
/// `memory_for` is hidden: what the kernel copies past the backend could not fail. Any number of
/// threads may use it that may use B.
template <class B>
class fault : public detail::decorator<fault<B>, detail::faulty_answers<B>> {
    using base = detail::decorator<fault, detail::faulty_answers<B>>;
    static constexpr std::size_t own_frame = 1024;  // of misbehave, which the tests measure

public:
    static constexpr unsigned operations_in_flight = std::max(1u, detail::operations_of<B>);
    static constexpr std::size_t task_bytes = own_frame + detail::frames_of<B>;

    explicit fault(B inner, fault_plan plan = {})
        : base{attributes_of(inner)}, inner_{std::move(inner)},
          faults_{std::make_unique<detail::faults>(std::move(plan), unit(base::attributes()))} {}

    /// Whether faults happen; from any thread. They do from the start, and nothing is counted or
    /// drawn while they do not.
    void arm(bool on) noexcept { faults_->arm(on); }

    /// Requests so far that something happened to; from any thread.
    [[nodiscard]] std::uint64_t injected() const noexcept { return faults_->injected(); }

    [[nodiscard]] B& inner() noexcept { return inner_; }

    [[nodiscard]] std::vector<const registered_file*> ring_files() const {
        return attributes_of(inner_).ring_files;
    }

    /// For the base class.
    template <class Op, class... P>
    [[nodiscard]] task later(io& with, const request& r, P... payload) noexcept {
        const detail::fault_verdict verdict = faults_->decide(r);
        if (verdict.harmless()) [[likely]] {
            return detail::call_operation<Op>(inner_, with, r, payload...);
        }
        return misbehave<Op>(with, r, verdict, payload...);
    }

private:
    // A request may be cut where it may begin, and where its memory may.
    [[nodiscard]] static std::uint32_t unit(const disk_attributes& disk) noexcept {
        return std::max(disk.logical_block_size, disk.dma_alignment);
    }

    // Not inlined, or Clang would put the frames of all tasks below into that of misbehave, where
    // they do not take turns in the same place.
    template <class Op, class... P>
    [[gnu::noinline]] task pass(io& with, const request& r, P... payload) noexcept {
        return detail::call_operation<Op>(inner_, with, r, payload...);
    }

    template <class Op, class... P>
    task misbehave(io& with, const request& r, detail::fault_verdict verdict, P... payload) {
        if (verdict.delay.count() > 0) {
            const int slept = co_await with.sleep(verdict.delay);
            if (slept < 0) {
                co_return result::failure(slept);
            }
        }
        if (verdict.kind == fault_kind::fail) {
            co_return result::failure(verdict.error);
        }
        const bool whole = verdict.kind == fault_kind::none ||
                           (verdict.kind == fault_kind::split && verdict.cut == 0);
        if (whole) {
            task all = pass<Op>(with, r, payload...);
            const result answer = co_await std::move(all);
            co_return answer;
        }
        if (verdict.cut != 0) {
            const request head = r.part(r.offset(), verdict.cut);
            task first = pass<Op>(with, head, payload.subspan(0, verdict.cut)...);
            const result answer = co_await std::move(first);
            if (!answer.ok()) {
                co_return answer;
            }
        }
        if (verdict.kind == fault_kind::die) {
            faults_->die(r);
            co_return std::errc::io_error;
        }
        if (verdict.kind == fault_kind::torn) {
            co_return result::failure(verdict.error);
        }
        const std::uint64_t rest = r.length() - verdict.cut;
        if (rest == 0) {
            co_return ok;
        }
        const request tail = r.part(r.offset() + verdict.cut, rest);
        task second = pass<Op>(with, tail, payload.subspan(verdict.cut, rest)...);
        const result answer = co_await std::move(second);
        co_return answer;
    }

    B inner_;
    std::unique_ptr<detail::faults> faults_;
};

}  // namespace backends

}  // namespace ublk::inline v0
