// SPDX-License-Identifier: MIT
#include <ublk/prometheus.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace prometheus_test {
namespace {

using ublk::histogram;
using ublk::operation_kind;
using ublk::stats_snapshot;
namespace uapi = ublk::uapi;

using label_map = std::map<std::string, std::string>;

struct sample {
    std::string name;
    label_map labels;
    std::string value;
    [[nodiscard]] double number() const { return std::stod(value); }
};

struct family {
    std::string type;
    std::vector<sample> samples;
};

/// As strict as a scraper, and stricter: each family once, with HELP, TYPE and samples in a row.
class parser {
public:
    explicit parser(const std::string& text) {
        EXPECT_TRUE(text.empty() || text.back() == '\n');
        std::istringstream in{text};
        for (std::string line; std::getline(in, line);) {
            if (!take(line)) {
                ADD_FAILURE() << "not understood: " << line;
            }
        }
    }

    std::map<std::string, family> families{};

    [[nodiscard]] std::optional<std::string> value(const std::string& name,
                                                   const label_map& labels) const {
        for (const auto& [unused, each] : families) {
            for (const sample& s : each.samples) {
                if (s.name == name && s.labels == labels) {
                    return s.value;
                }
            }
        }
        return {};
    }

private:
    bool take(const std::string& line) {
        static const std::regex help{R"(# HELP ([a-z_]+) \S.*)"};
        static const std::regex type{R"(# TYPE ([a-z_]+) (counter|gauge|histogram))"};
        static const std::regex value{
            R"re(([a-z_]+)\{(([a-z]+="[^"\\]*",?)+)\} ([0-9]+(\.[0-9]+)?))re"};
        std::smatch match;
        if (std::regex_match(line, match, help)) {
            helped_ = match[1];
            EXPECT_FALSE(families.contains(helped_)) << "twice: " << line;
            return true;
        }
        if (std::regex_match(line, match, type)) {
            EXPECT_EQ(match[1], helped_) << "TYPE without HELP";
            EXPECT_TRUE(families.emplace(match[1], family{match[2], {}}).second) << line;
            return true;
        }
        if (!std::regex_match(line, match, value)) {
            return false;
        }
        family& open = families[helped_];
        EXPECT_TRUE(belongs(match[1], open.type)) << line << " after " << helped_;
        EXPECT_TRUE(seen_.insert(match[1].str() + match[2].str()).second) << "twice: " << line;
        open.samples.push_back({match[1], labels(match[2]), match[4]});
        return true;
    }

    [[nodiscard]] bool belongs(const std::string& name, const std::string& type) const {
        if (type != "histogram") {
            return name == helped_;
        }
        return name == helped_ + "_bucket" || name == helped_ + "_sum" ||
               name == helped_ + "_count";
    }

    [[nodiscard]] static label_map labels(const std::string& text) {
        static const std::regex one{R"re(([a-z]+)="([^"]*)")re"};
        label_map all;
        for (std::sregex_iterator i{text.begin(), text.end(), one}; i != std::sregex_iterator{};
             ++i) {
            EXPECT_TRUE(all.emplace((*i)[1], (*i)[2]).second);
        }
        return all;
    }

    std::string helped_{};
    std::set<std::string> seen_{};
};

/// Buckets rise, with `le` and with the count; the last has no limit and counts all.
void expect_histogram(const family& of, const std::string& name) {
    EXPECT_EQ(of.type, "histogram");
    std::map<label_map, std::vector<sample>> series;
    std::map<label_map, std::pair<int, int>> ends;  // sums and counts
    std::map<label_map, double> counts;
    for (sample each : of.samples) {
        if (each.name == name + "_bucket") {
            label_map by = each.labels;
            ASSERT_EQ(by.erase("le"), 1u);
            series[by].push_back(std::move(each));
        } else if (each.name == name + "_count") {
            counts[each.labels] = each.number();
            ++ends[each.labels].second;
        } else {
            ++ends[each.labels].first;
        }
    }
    EXPECT_EQ(series.size(), ends.size());
    for (const auto& [by, buckets] : series) {
        EXPECT_EQ(ends[by], (std::pair{1, 1}));
        double limit = -1;
        double count = 0;
        for (const sample& each : buckets) {
            const std::string& le = each.labels.at("le");
            const double now =
                le == "+Inf" ? std::numeric_limits<double>::infinity() : std::stod(le);
            EXPECT_GT(now, limit);
            EXPECT_GE(each.number(), count);
            limit = now;
            count = each.number();
        }
        EXPECT_EQ(buckets.back().labels.at("le"), "+Inf");
        EXPECT_EQ(count, counts[by]);
    }
}

ublk::device_info device(std::uint32_t id) {
    ublk::device_info info;
    info.id = id;
    info.queues = 2;
    info.depth = 64;
    info.threads = 1;
    return info;
}

stats_snapshot busy() {
    stats_snapshot all;
    all.queues.resize(2);
    ublk::operation_stats& reads = all.queues[1].kinds[0];
    for (const std::uint64_t ns : {5ull, 1023ull, 1024ull, 3'000'000ull, 90'000'000'000ull}) {
        ++reads.latency.counts[histogram::bucket_of(ns)];
        reads.latency.nanoseconds += ns;
    }
    reads.bytes = 12288;
    reads.errors = 2;
    ublk::operation_stats& zeroes = all.queues[0].kinds[5];
    zeroes.latency.counts[histogram::bucket_of(2048)] = 7;
    zeroes.latency.nanoseconds = 7u * 2048;
    all.queues[1].in_flight = 3;
    all.queues[1].most_in_flight = 9;
    ublk::turn_stats& turns = all.threads.emplace_back();
    turns.by_size = {4, 3, 2, 1};
    turns.by_size.back() = 1;
    turns.requests = 200'000;
    turns.most = 190'000;
    return all;
}

TEST(prometheus, has_each_family_with_its_type) {
    const parser seen{to_prometheus(busy(), device(7))};
    std::map<std::string, std::string> types;
    for (const auto& [name, each] : seen.families) {
        types[name] = each.type;
        EXPECT_EQ(name.ends_with("_total"), each.type == "counter") << name;
        EXPECT_FALSE(each.samples.empty()) << name;
    }
    EXPECT_EQ(types, (std::map<std::string, std::string>{
                         {"ublk_device_info", "gauge"},
                         {"ublk_requests_total", "counter"},
                         {"ublk_request_errors_total", "counter"},
                         {"ublk_request_bytes_total", "counter"},
                         {"ublk_request_duration_seconds", "histogram"},
                         {"ublk_requests_in_flight", "gauge"},
                         {"ublk_requests_in_flight_max", "gauge"},
                         {"ublk_turn_requests", "histogram"},
                         {"ublk_turn_requests_max", "gauge"},
                     }));
}

TEST(prometheus, says_what_was_counted) {
    const parser seen{to_prometheus(busy(), device(7))};
    const label_map reads{{"device", "ublkb7"}, {"queue", "1"}, {"op", "read"}};
    const label_map queue{{"device", "ublkb7"}, {"queue", "1"}};
    const label_map thread{{"device", "ublkb7"}, {"thread", "0"}};
    EXPECT_EQ(seen.value("ublk_requests_total", reads), "5");
    EXPECT_EQ(seen.value("ublk_request_errors_total", reads), "2");
    EXPECT_EQ(seen.value("ublk_request_bytes_total", reads), "12288");
    EXPECT_EQ(seen.value("ublk_request_duration_seconds_sum", reads), "90.003002052");
    EXPECT_EQ(seen.value("ublk_requests_total",
                         {{"device", "ublkb7"}, {"queue", "0"}, {"op", "write_zeroes"}}),
              "7");
    EXPECT_EQ(
        seen.value("ublk_requests_total", {{"device", "ublkb7"}, {"queue", "0"}, {"op", "flush"}}),
        "0");
    EXPECT_EQ(seen.value("ublk_requests_in_flight", queue), "3");
    EXPECT_EQ(seen.value("ublk_requests_in_flight_max", queue), "9");
    EXPECT_EQ(seen.value("ublk_turn_requests_sum", thread), "200000");
    EXPECT_EQ(seen.value("ublk_turn_requests_count", thread), "11");
    EXPECT_EQ(seen.value("ublk_turn_requests_max", thread), "190000");
    EXPECT_EQ(seen.value("ublk_device_info", {{"device", "ublkb7"},
                                              {"path", "copy"},
                                              {"queues", "2"},
                                              {"depth", "64"},
                                              {"threads", "1"}}),
              "1");
}

TEST(prometheus, histograms_are_well_formed) {
    const parser seen{to_prometheus(busy(), device(0))};
    for (const char* name : {"ublk_request_duration_seconds", "ublk_turn_requests"}) {
        expect_histogram(seen.families.at(name), name);
    }
}

TEST(prometheus, buckets_are_cumulative_and_in_seconds) {
    const parser seen{to_prometheus(busy(), device(0))};
    const auto at_most = [&](const std::string& le) {
        return seen.value("ublk_request_duration_seconds_bucket",
                          {{"device", "ublkb0"}, {"queue", "1"}, {"op", "read"}, {"le", le}});
    };
    EXPECT_EQ(at_most("0.000001023"), "2");
    EXPECT_EQ(at_most("0.000002047"), "3");
    EXPECT_EQ(at_most("0.002097151"), "3");
    EXPECT_EQ(at_most("0.004194303"), "4");
    EXPECT_EQ(at_most("17.179869183"), "4");
    EXPECT_EQ(at_most("+Inf"), "5");
    const auto found = [&](const std::string& le) {
        return seen.value("ublk_turn_requests_bucket",
                          {{"device", "ublkb0"}, {"thread", "0"}, {"le", le}});
    };
    EXPECT_EQ(found("0"), "4");
    EXPECT_EQ(found("1"), "7");
    EXPECT_EQ(found("2"), "9");
    EXPECT_EQ(found("4"), "10");
    EXPECT_EQ(found("32768"), "10");
    EXPECT_EQ(found("+Inf"), "11");
}

TEST(prometheus, latencies_of_what_never_came_are_left_out) {
    const std::string text = to_prometheus(busy(), device(0));
    EXPECT_EQ(text.find("duration_seconds_count{device=\"ublkb0\",queue=\"0\",op=\"read\""),
              std::string::npos);
    EXPECT_NE(text.find("duration_seconds_count{device=\"ublkb0\",queue=\"1\",op=\"read\""),
              std::string::npos);
}

TEST(prometheus, several_devices_share_their_families) {
    const std::vector<ublk::measured_device> both{{busy(), device(3)}, {busy(), device(4)}};
    const parser seen{ublk::to_prometheus(both)};
    for (const auto& [name, each] : seen.families) {
        std::set<std::string> devices;
        for (const sample& s : each.samples) {
            devices.insert(s.labels.at("device"));
        }
        EXPECT_EQ(devices, (std::set<std::string>{"ublkb3", "ublkb4"})) << name;
    }
    expect_histogram(seen.families.at("ublk_turn_requests"), "ublk_turn_requests");
}

TEST(prometheus, a_device_that_never_started_has_no_samples_but_its_own) {
    const parser seen{to_prometheus(stats_snapshot{}, ublk::device_info{})};
    for (const auto& [name, each] : seen.families) {
        EXPECT_EQ(each.samples.size(), name == "ublk_device_info" ? 1u : 0u) << name;
    }
}

}  // namespace
}  // namespace prometheus_test
