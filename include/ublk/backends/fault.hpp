// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/fault_plan.hpp>
#include <ublk/backends/filter.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace ublk::inline v0::backends {

/// Any backend, with faults: errors, delays, torn and split transfers, and the server's death, by
/// rules or by a seed (fault_plan.hpp). What it shows of itself is what B shows.
///
/// All its functions are asynchronous, also where those of B answer at once, since each may have to
/// wait; a request that nothing happens to is B's own task or answer, without a coroutine more. B's
/// `memory_for` is hidden: what the kernel copies past the backend could not fail. Any number of
/// threads may use it that may use B.
template <class B>
class fault : public filter<fault<B>, B> {
    using base = filter<fault, B>;

public:
    explicit fault(B below, fault_plan plan = {})
        : base{std::move(below)}, faults_{std::make_unique<detail::faults>(
                                      std::move(plan), unit(base::attributes()))} {}

    /// Whether faults happen; from any thread. They do from the start, and nothing is counted or
    /// drawn while they do not.
    void arm(bool on) noexcept { faults_->arm(on); }

    /// Requests so far that something happened to; from any thread.
    [[nodiscard]] std::uint64_t injected() const noexcept { return faults_->injected(); }

    /// For the base class.
    template <class Op, class... P>
    [[nodiscard]] task later(io& with, const request& r, P... payload) noexcept {
        const detail::fault_verdict verdict = faults_->decide(r);
        if (verdict.harmless()) [[likely]] {
            return this->template pass<Op>(with, r, payload...);
        }
        return misbehave<Op>(with, r, verdict, payload...);
    }

private:
    // A request may be cut where it may begin, and where its memory may.
    [[nodiscard]] static std::uint32_t unit(const disk_attributes& disk) noexcept {
        return std::max(disk.logical_block_size, disk.dma_alignment);
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
            task all = this->template pass<Op>(with, r, payload...);
            const result answer = co_await std::move(all);
            co_return answer;
        }
        if (verdict.cut != 0) {
            const request head = r.part(r.offset(), verdict.cut);
            task first = this->template pass<Op>(with, head, payload.subspan(0, verdict.cut)...);
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
        task second = this->template pass<Op>(with, tail, payload.subspan(verdict.cut, rest)...);
        const result answer = co_await std::move(second);
        co_return answer;
    }

    std::unique_ptr<detail::faults> faults_;
};

}  // namespace ublk::inline v0::backends
