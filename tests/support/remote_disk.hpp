// SPDX-License-Identifier: MIT
#pragma once

// A disk that is on the other side of a stream, and that side.

#include <ublk/detail/fd.hpp>
#include <ublk/io.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>
#include <ublk/sim/peer.hpp>
#include <ublk/sim/rig.hpp>
#include <ublk/task.hpp>

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

/// What goes before the bytes of a write, and asks for those of a read.
struct remote_header {
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
    std::uint32_t writes = 0;
};

/// The server's side.
struct remote_server {
    std::vector<std::byte> bytes = std::vector<std::byte>(256u << 10);
    bool mute = false;  ///< never answers

    /// One connection.
    void serve(ublk::sim::peer_stream& client) {
        remote_header header;
        std::vector<std::byte> data;
        while (client.receive(std::as_writable_bytes(std::span{&header, 1}))) {
            data.resize(header.length);
            if (mute) {
                continue;
            }
            if (header.writes != 0) {
                if (!client.receive(data)) {
                    return;
                }
                std::memcpy(&bytes[header.offset], data.data(), data.size());
                data.assign(1, std::byte{0});  // done
            } else {
                std::memcpy(data.data(), &bytes[header.offset], data.size());
            }
            if (!client.send(data)) {
                return;
            }
        }
    }
};

/// The client. It has a connection for each tag, with one request at a time on it, and makes a new
/// one where a conversation broke off.
class remote_disk {
public:
    /// `flags` 0 is the mistake to take the first part of an answer for all of it.
    explicit remote_disk(std::shared_ptr<remote_server> server, int flags = MSG_WAITALL)
        : server_{std::move(server)}, flags_{flags} {}

    [[nodiscard]] std::uint64_t size() const noexcept { return server_->bytes.size(); }
    [[nodiscard]] const std::shared_ptr<remote_server>& server() const noexcept { return server_; }

    ublk::task read(ublk::io& with, const ublk::request& r, std::span<std::byte> out) {
        const int socket = connection(r).get();
        const remote_header header{r.offset(), static_cast<std::uint32_t>(out.size()), 0};
        const int sent = co_await with.send(socket, bytes_of(header), MSG_WAITALL);
        if (sent != sizeof header) {
            co_return broken(r);
        }
        const int found = co_await with.recv(socket, out, flags_);
        co_return found == static_cast<int>(out.size()) ? ublk::ok : broken(r);
    }

    ublk::task write(ublk::io& with, const ublk::request& r, std::span<const std::byte> in) {
        const int socket = connection(r).get();
        const remote_header header{r.offset(), static_cast<std::uint32_t>(in.size()), 1};
        int moved = co_await with.send(socket, bytes_of(header), MSG_WAITALL);
        if (moved != sizeof header) {
            co_return broken(r);
        }
        moved = co_await with.send(socket, in, MSG_WAITALL);
        if (moved != static_cast<int>(in.size())) {
            co_return broken(r);
        }
        std::byte done{};
        moved = co_await with.recv(socket, {&done, 1});
        co_return moved == 1 ? ublk::ok : broken(r);
    }

private:
    [[nodiscard]] static std::span<const std::byte> bytes_of(const remote_header& header) noexcept {
        return std::as_bytes(std::span{&header, 1});
    }

    /// A real client would call connect(2) here.
    [[nodiscard]] ublk::fd& connection(const ublk::request& r) {
        ublk::fd& mine = connections_.at(r.queue().value()).at(r.tag().value());
        if (!mine) {
            mine = ublk::sim::connect_to_peer(
                [to = server_](ublk::sim::peer_stream& client) { to->serve(client); });
        }
        return mine;
    }

    [[nodiscard]] ublk::result broken(const ublk::request& r) noexcept {
        connections_[r.queue().value()][r.tag().value()] = {};
        return std::errc::io_error;
    }

    std::shared_ptr<remote_server> server_;
    int flags_;
    std::array<std::array<ublk::fd, 8>, 2> connections_;
};

template <>
struct ublk::sim::specimen<remote_disk> {
    static std::shared_ptr<remote_disk> make() {
        return std::make_shared<remote_disk>(std::make_shared<remote_server>());
    }
    static std::shared_ptr<remote_disk> revive(const std::shared_ptr<remote_disk>& dead) {
        return std::make_shared<remote_disk>(dead->server());
    }
    static constexpr bool remembers = true;
};
