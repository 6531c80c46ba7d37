// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data_path.hpp>
#include <ublk/error.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ublk::inline v0::detail {

/// The kernel has a way of serving and refuses it at run time all the same, as it does where a
/// limit on locked memory is reached: another way may do.
class setup_refused : public error {
public:
    enum class kind {
        path,    ///< the data path's buffers
        batches  ///< the driver's batches
    };

    setup_refused(kind refused, int code, std::string_view step,
                  std::optional<std::uint32_t> device, std::string cause, std::string remedy)
        : error{code, step, device, std::move(cause), std::move(remedy)}, refused_{refused} {}

    [[nodiscard]] kind refused() const noexcept { return refused_; }

private:
    kind refused_;
};

/// What one start has found to be refused.
struct refused_setups {
    std::vector<std::pair<data_path, std::string>> paths{};  ///< and why
    std::string batches{};                                   ///< why; "" where they are not

    /// `path` is what was tried.
    void add(const setup_refused& refusal, data_path path) {
        refusal.refused() == setup_refused::kind::batches
            ? void(batches = refusal.reason())
            : void(paths.emplace_back(path, refusal.reason()));
    }
};

}  // namespace ublk::inline v0::detail
