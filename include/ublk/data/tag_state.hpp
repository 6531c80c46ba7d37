// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>

#include <cstdint>

namespace ublk::inline v0::detail {

/// Who owns a tag. Each illegal move asserts: a request served twice or committed twice is how a
/// block device loses data.
///
///     nobody --to_driver--> kernel --to_server--> server --to_driver--> kernel ...
///                             |\--to_server_and_back--> kernel
///                             \--abort--> gone
class tag_state {
public:
    enum class owner : std::uint8_t {
        nobody,  ///< not yet fetched
        kernel,  ///< a FETCH or COMMIT_AND_FETCH is with the driver
        server,  ///< the backend is at it
        gone     ///< the driver said ABORT: never fetch it again
    };

    [[nodiscard]] owner owned_by() const noexcept { return owner_; }

    /// To the kernel: first fetched, or committed.
    void to_driver() noexcept {
        UBLK_ASSERT(owner_ == owner::nobody || owner_ == owner::server,
                    "only a tag that the server holds is handed to the kernel");
        owner_ = owner::kernel;
    }

    /// From the kernel, with a request.
    void to_server() noexcept {
        UBLK_ASSERT(owner_ == owner::kernel,
                    "the kernel only sends requests on tags that it holds");
        owner_ = owner::server;
    }

    /// From the kernel, with a request that goes back with its answer before anybody looks again:
    /// both moves at once.
    void to_server_and_back() noexcept {
        UBLK_ASSERT(owner_ == owner::kernel,
                    "the kernel only sends requests on tags that it holds");
    }

    /// From the kernel, for good.
    void abort() noexcept {
        UBLK_ASSERT(owner_ == owner::kernel, "the kernel only aborts tags that it holds");
        owner_ = owner::gone;
    }

private:
    owner owner_ = owner::nobody;
};

static_assert(sizeof(tag_state) == 1);

}  // namespace ublk::inline v0::detail
