// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/queue.hpp>
#include <ublk/data_path.hpp>
#include <ublk/payload.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>
#include <ublk/uapi.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <system_error>

namespace ublk::inline v0::detail {

namespace paths {
struct copy;
}

/// Serving what exceeds its buffer would overrun the next tag.
template <class Path>
[[nodiscard, gnu::always_inline]] inline bool exceeds_buffer(const tag_ref& here,
                                                             std::size_t bytes) noexcept {
    return has_tag_buffers(Path::id) && bytes > here.queue.data.stride();
}

/// What happens to the bytes of a request, outside the hot loop, before and after the backend has
/// it: by most paths nothing.
template <class Path>
class unusual_transfer {
public:
    unusual_transfer(const tag_ref& here, const request&, std::size_t bytes) noexcept
        : payload_{Path::bytes(here, bytes)}, fits_{!exceeds_buffer<Path>(here, bytes)} {}

    /// Errors: EIO where the request is larger than its buffer.
    [[nodiscard]] result before() const noexcept {
        return fits_ ? ok : result{std::errc::io_error};
    }
    [[nodiscard]] result after(result answer) const noexcept { return answer; }
    [[nodiscard]] const typename Path::payload& payload() const noexcept { return payload_; }

private:
    typename Path::payload payload_;
    bool fits_;
};

/// By `data_path::thread_copy` the tags have no buffers, so that each request with bytes comes
/// here. They are copied to or from a buffer of the thread, with which a backend that answers at
/// once is done when it returns.
template <>
class unusual_transfer<paths::copy> {
public:
    unusual_transfer(const tag_ref& here, const request& r, std::size_t bytes) noexcept
        : client_{here.queue.file,
                  uapi::user_copy_position(here.queue.id.value(), here.tag.value(), 0), bytes},
          by_thread_{!here.queue.thread_buffer.empty()}, write_{r.op() == uapi::op::write} {
        const std::size_t room =
            by_thread_ ? here.queue.thread_buffer.size() : here.queue.data.stride();
        fits_ = bytes <= room;
        payload_ = {by_thread_ ? here.queue.thread_buffer.data() : here.queue.data[here.tag],
                    std::min(bytes, room)};
    }

    /// Errors: EIO where the request is larger than its buffer; those of `user_copy::get`.
    [[nodiscard]] result before() const noexcept {
        return !fits_                 ? result{std::errc::io_error}
               : by_thread_ && write_ ? client_.get(0, payload_)
                                      : ok;
    }

    /// Errors: the backend's; those of `user_copy::put`.
    [[nodiscard]] result after(result answer) const noexcept {
        return by_thread_ && !write_ && answer.ok() ? client_.put(0, payload_) : answer;
    }

    [[nodiscard]] const std::span<std::byte>& payload() const noexcept { return payload_; }

private:
    user_copy client_;
    std::span<std::byte> payload_{};
    bool by_thread_;
    bool write_;
    bool fits_ = false;
};

}  // namespace ublk::inline v0::detail
