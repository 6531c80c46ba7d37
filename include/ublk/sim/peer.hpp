// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fd.hpp>
#include <ublk/error.hpp>
#include <ublk/sim/machine.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>

namespace ublk::inline v0::sim {

/// One end of a stream between a backend and its peer: the peer's, with calls that wait in
/// simulated time.
///
/// Thread: the simulated one of its peer.
class peer_stream {
public:
    peer_stream(machine& on, fd socket) noexcept : on_{&on}, socket_{std::move(socket)} {}

    /// Waits until all of `out` has come. False where the backend has closed its end before that.
    [[nodiscard]] bool receive(std::span<std::byte> out) {
        return move_all(out.size(), [&](std::size_t done, std::size_t some) {
            return ::recv(socket_.get(), out.data() + done, some, MSG_DONTWAIT);
        });
    }

    /// Waits until all of `in` is on its way. False where the backend has closed its end.
    [[nodiscard]] bool send(std::span<const std::byte> in) {
        return move_all(in.size(), [&](std::size_t done, std::size_t some) {
            return ::send(socket_.get(), in.data() + done, some, MSG_DONTWAIT | MSG_NOSIGNAL);
        });
    }

private:
    template <class Move>
    bool move_all(std::size_t bytes, Move move) {
        using std::chrono::nanoseconds;
        nanoseconds patience = on_->some_time();
        for (std::size_t done = 0; done < bytes;) {
            const auto outcome = move(done, bytes - done);
            if (outcome > 0) {
                done += static_cast<std::size_t>(outcome);
                patience = on_->some_time();
                continue;
            }
            if (outcome == 0 || errno != EAGAIN) {
                return false;
            }
            // An operation of a backend's wakes it; the end of a stream nobody tells.
            (void)on_->tasks.block(on_->peers, "its peer", on_->tasks.now() + patience);
            patience = std::clamp<nanoseconds>(2 * patience, std::chrono::microseconds{10},
                                               std::chrono::seconds{1});
        }
        return true;
    }

    machine* on_;
    fd socket_;
};

/// Connects a backend under test to a peer: a simulated thread that calls `serve(peer_stream&)` and
/// ends when that returns. Several backends, and several threads of one, may each have as many as
/// they like. A peer outlives a killed server, as one on another machine does, until what is left
/// of the backend closes its end.
///
/// Returns: the backend's end, a stream socket. Outside of a simulated world nobody answers there.
/// Throws: `error` where there is no socket.
template <class Serve>
[[nodiscard]] fd connect_to_peer(Serve serve) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        fail(errno, "making a pair of sockets", std::nullopt);
    }
    fd mine{ends[0]}, theirs{ends[1]};
    if (machine* const on = machine::here(); on != nullptr) {
        (void)on->tasks.spawn("peer", [stream = peer_stream{*on, std::move(theirs)},
                                       serve = std::move(serve)]() mutable { serve(stream); });
    }
    return mine;
}

}  // namespace ublk::inline v0::sim
