// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backend.hpp>
#include <ublk/device.hpp>
#include <ublk/event.hpp>
#include <ublk/sim/batch_wire.hpp>
#include <ublk/sim/workload.hpp>
#include <ublk/thread_set.hpp>

#include <unistd.h>

#include <array>
#include <concepts>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ublk::inline v0::sim {

/// How the laws get a backend. Specialise it for one without a default constructor, and to say more
/// of it:
///
///     static std::shared_ptr<B> make();            // a new disk, which reads as zeroes
///     static constexpr bool remembers;             // false: writes may be forgotten
///     // Optional, for the laws of what a disk keeps:
///     static std::shared_ptr<B> revive(std::shared_ptr<B> dead);   // in a next process, after
///                                                                  // SIGKILL
///     static std::shared_ptr<B> power_cut(std::shared_ptr<B> dead, random&);  // after that, what
///                                                                  // was not flushed may be lost
template <class B>
struct specimen {
    static std::shared_ptr<B> make() { return std::make_shared<B>(); }
    static constexpr bool remembers = true;
};

template <class B>
concept revivable = requires(std::shared_ptr<B> dead) {
    { specimen<B>::revive(dead) } -> std::same_as<std::shared_ptr<B>>;
};
template <class B>
concept loses_power = requires(std::shared_ptr<B> dead, random& dice) {
    { specimen<B>::power_cut(dead, dice) } -> std::same_as<std::shared_ptr<B>>;
};

/// A backend with its policies, and with a data path where that is not left to the library.
template <class Backend, class QueuePolicy, class BatchPolicy, data_path... Path>
struct composition {
    static_assert(sizeof...(Path) <= 1);
    static constexpr std::array<data_path, sizeof...(Path)> path{Path...};
    using backend = Backend;
    using queue_policy = QueuePolicy;
    using batch_policy = BatchPolicy;
    using device = ublk::device<Backend, QueuePolicy, BatchPolicy, kernel>;
};

/// A world with a disk in it and a model of what that disk must answer.
template <class Composition>
class rig {
public:
    using backend = typename Composition::backend;
    using device = typename Composition::device;

    explicit rig(const conditions& given, std::shared_ptr<backend> disk_store = nullptr)
        : in{given}, store{disk_store != nullptr ? std::move(disk_store)
                                                 : specimen<backend>::make()},
          disk{attributes_of(*store)}, expected{disk_window::parts_of(disk.size /
                                                                      disk.logical_block_size),
                                                disk.logical_block_size, disk.volatile_cache} {}

    /// Few tags and small buffers: what is rare with many happens all the time, and it is fast.
    [[nodiscard]] static options small() {
        options requested;
        requested.queues = 2;
        requested.cpus = {0, 1};
        requested.depth = 4;
        requested.max_io_bytes = static_cast<std::uint32_t>(2 * ::sysconf(_SC_PAGESIZE));
        return requested;
    }

    rig(const rig&) = delete;
    rig& operator=(const rig&) = delete;
    ~rig() { close(); }

    /// The server goes; `told` has what it had to tell.
    void end_server() {
        if (server != nullptr) {
            const std::vector<event> events = server->events();
            told.insert(told.end(), events.begin(), events.end());
            server.reset();
        }
    }

    /// The server goes, and the disk after it, with all that ends by that.
    void close() {
        end_server();
        store.reset();
        in.settle();
    }

    /// Whether something was done to a server on purpose.
    [[nodiscard]] bool meddled() noexcept { return !in.on().hit.empty() || in.on().killed; }

    /// A new server with the same store.
    void boot() { boot(small()); }
    void boot(options requested) {
        if constexpr (requires { Composition::path; }) {
            // Where this kernel lacks the path, the library chooses another.
            for (const data_path wanted : Composition::path) {
                const bool known = (features_of(wanted) & ~features_of(in.on().is.version)) == 0;
                requested.path = !requested.path && known ? std::optional{wanted} : requested.path;
            }
        }
        end_server();
        const kernel& mine = process.emplace_back(in.boot());
        constexpr bool pooled = requires {
            requires queue_policy_traits<typename Composition::queue_policy>::on_thread_set;
        };
        if constexpr (pooled) {
            const basic_thread_set<kernel> threads{{.threads = 2}, mine};
            server = std::make_unique<device>(store, threads, std::move(requested), mine);
        } else {
            server = std::make_unique<device>(store, std::move(requested), mine);
        }
    }

    /// Throws: `error`, as the device does.
    void start() {
        boot();
        server->start();
    }

    [[nodiscard]] kernel& last() noexcept { return process.back(); }

    /// What a next process does with the remains of one that died.
    void clean_up() {
        in.settle();
        const kernel janitor = in.boot();
        for (std::uint32_t id = 0; in.devices() != 0 && id < 64; ++id) {
            if (in.ublk_drv().life.find(id) != nullptr) {
                ublk::detail::control_commands<kernel> commands{janitor, std::chrono::seconds{60}};
                commands.stop_dev(id, std::chrono::seconds{60});
                commands.del_dev(id);
            }
        }
    }

    world in;
    std::shared_ptr<backend> store;
    disk_attributes disk;
    model expected;
    std::vector<kernel> process;
    std::unique_ptr<device> server;
    std::vector<event> told;  ///< by servers that are gone
};

}  // namespace ublk::inline v0::sim
