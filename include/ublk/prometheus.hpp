// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/histogram.hpp>
#include <ublk/options.hpp>
#include <ublk/stats_snapshot.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace ublk::inline v0 {

/// `device::stats` and `device::info` of one device.
struct measured_device {
    stats_snapshot counts;
    device_info info;
};

namespace detail {

/// Writes Prometheus' text format, version 0.0.4.
class prometheus_writer {
public:
    explicit prometheus_writer(std::span<const measured_device> devices) noexcept
        : devices_{devices} {}

    [[nodiscard]] std::string write() && {
        begin("device_info", "gauge", "What the kernel granted.");
        for (const measured_device& each : devices_) {
            const device_info& is = each.info;
            line("device_info",
                 of(each) + label("path", to_string(is.path)) + label("queues", is.queues) +
                     label("depth", is.depth) + label("threads", is.threads),
                 "1");
        }
        operations();
        queues();
        turns();
        return std::move(text_);
    }

private:
    using labels = std::string;

    void operations() {
        const auto counter = [this](std::string_view name, std::string_view help, auto value) {
            begin(name, "counter", help);
            each_operation([&](const labels& by, const operation_stats& of) {
                line(name, by, std::to_string(value(of)));
            });
        };
        counter("requests_total", "Requests answered.",
                [](const operation_stats& o) { return o.requests(); });
        counter("request_errors_total", "Requests answered with an error.",
                [](const operation_stats& o) { return o.errors; });
        counter("request_bytes_total", "Bytes of requests answered without an error.",
                [](const operation_stats& o) { return o.bytes; });

        constexpr std::string_view latency = "request_duration_seconds";
        begin(latency, "histogram", "From when the server found a request to its answer.");
        each_operation([&](const labels& by, const operation_stats& of) {
            if (of.requests() != 0) {  // most disks never see some of the operations
                durations(latency, by, of.latency);
            }
        });
    }

    // A bucket of ours begins at each power of two.
    void durations(std::string_view name, const labels& by, const histogram& of) {
        constexpr unsigned from = 10, to = 34;  // a microsecond, and 17 seconds
        std::uint64_t seen = 0;
        std::size_t next = 0;
        for (unsigned i = from; i <= to; ++i) {
            const std::uint64_t end = std::uint64_t{1} << i;
            for (; next < histogram::bucket_of(end); ++next) {
                seen += of.counts[next];
            }
            bucket(name, by, seconds(end - 1), seen);
        }
        end_of_histogram(name, by, of.count(), seconds(of.nanoseconds));
    }

    void queues() {
        const auto gauge = [this](std::string_view name, std::string_view help, auto value) {
            begin(name, "gauge", help);
            for (const measured_device& each : devices_) {
                for (std::size_t q = 0; q < each.counts.queues.size(); ++q) {
                    line(name, of(each) + label("queue", q),
                         std::to_string(value(each.counts.queues[q])));
                }
            }
        };
        gauge("requests_in_flight", "Requests that wait for their answer.",
              [](const queue_stats& q) { return q.in_flight; });
        gauge("requests_in_flight_max", "The most that ever did so at the same time.",
              [](const queue_stats& q) { return q.most_in_flight; });
    }

    void turns() {
        constexpr std::string_view name = "turn_requests";
        begin(name, "histogram", "Requests that a thread finds when it looks for some.");
        each_thread([&](const labels& by, const turn_stats& of) {
            std::uint64_t seen = 0;
            for (std::size_t i = 0; i + 1 < turn_stats::sizes; ++i) {
                seen += of.by_size[i];
                bucket(name, by, std::to_string(turn_stats::last_of(i)), seen);
            }
            end_of_histogram(name, by, of.turns(), std::to_string(of.requests));
        });
        begin("turn_requests_max", "gauge", "The most that it ever found at once.");
        each_thread([&](const labels& by, const turn_stats& of) {
            line("turn_requests_max", by, std::to_string(of.most));
        });
    }

    template <class Take>
    void each_operation(Take take) {
        for (const measured_device& each : devices_) {
            for (std::size_t q = 0; q < each.counts.queues.size(); ++q) {
                for (std::size_t k = 0; k < operation_names.size(); ++k) {
                    take(of(each) + label("queue", q) + label("op", operation_names[k]),
                         each.counts.queues[q].kinds[k]);
                }
            }
        }
    }

    template <class Take>
    void each_thread(Take take) {
        for (const measured_device& each : devices_) {
            for (std::size_t t = 0; t < each.counts.threads.size(); ++t) {
                take(of(each) + label("thread", t), each.counts.threads[t]);
            }
        }
    }

    // ---- the format

    void begin(std::string_view name, std::string_view type, std::string_view help) {
        add("# HELP ublk_", name, " ", help, "\n# TYPE ublk_", name, " ", type, "\n");
    }
    void line(std::string_view name, const labels& by, const std::string& value) {
        add("ublk_", name, "{", by, "} ", value, "\n");
    }
    void bucket(std::string_view name, const labels& by, const std::string& le,
                std::uint64_t count) {
        line(std::string{name} + "_bucket", by + label("le", le), std::to_string(count));
    }
    void end_of_histogram(std::string_view name, const labels& by, std::uint64_t count,
                          const std::string& sum) {
        bucket(name, by, "+Inf", count);
        line(std::string{name} + "_sum", by, sum);
        line(std::string{name} + "_count", by, std::to_string(count));
    }

    /// Our names and numbers have nothing that would have to be escaped.
    [[nodiscard]] static labels label(std::string_view name, std::string_view value) {
        return "," + std::string{name} + "=\"" + std::string{value} + "\"";
    }
    [[nodiscard]] static labels label(std::string_view name, std::size_t value) {
        return label(name, std::to_string(value));
    }
    [[nodiscard]] static labels of(const measured_device& each) {
        return "device=\"ublkb" + std::to_string(each.info.id) + "\"";
    }

    [[nodiscard]] static std::string seconds(std::uint64_t nanoseconds) {
        constexpr std::uint64_t second = 1'000'000'000;
        std::string fraction = std::to_string(second + nanoseconds % second);
        fraction[0] = '.';
        return std::to_string(nanoseconds / second) + fraction;
    }

    template <class... Parts>
    void add(const Parts&... parts) {
        (text_.append(parts), ...);
    }

    std::span<const measured_device> devices_;
    std::string text_;
};

}  // namespace detail

/// What several devices have counted, in Prometheus' text format, to be served as
/// `text/plain; version=0.0.4`.
[[nodiscard]] inline std::string to_prometheus(std::span<const measured_device> devices) {
    return detail::prometheus_writer{devices}.write();
}

/// The same of one device: `to_prometheus(disk.stats(), disk.info())`.
[[nodiscard]] inline std::string to_prometheus(stats_snapshot counts, device_info info) {
    const std::array one{measured_device{std::move(counts), std::move(info)}};
    return to_prometheus(one);
}

}  // namespace ublk::inline v0
