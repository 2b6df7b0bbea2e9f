#include "jobs/option_set.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <type_traits>

#include <fmt/format.h>

namespace regroup {
namespace {

constexpr const char* kDamaged = "the job's parameters are damaged";

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

// "a whole number from 1 to 4096", "a number of 0 or more".
std::string wanted_number(std::string wanted, double minimum, double maximum) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  const auto text = [](double bound) {
    return std::abs(bound) < 1e20 && bound == std::floor(bound) ? fmt::format("{:.0f}", bound)
                                                                : fmt::format("{}", bound);
  };
  if (minimum != -kNone && maximum != kNone) {
    return fmt::format("{} from {} to {}", wanted, text(minimum), text(maximum));
  }
  if (minimum != -kNone) return fmt::format("{} of {} or more", wanted, text(minimum));
  return maximum == kNone ? wanted : fmt::format("{} of {} or less", wanted, text(maximum));
}

}  // namespace

std::expected<void, std::string> Option::refuse(const std::string& text,
                                                const std::string& wanted) const {
  return std::unexpected(fmt::format("--{} takes {}, not '{}'", name_, wanted, text));
}

template <class Number>
std::expected<void, std::string> Option::set_number(Number& variable, const std::string& text) {
  Number value{};
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  const auto number = static_cast<double>(value);
  if (parsed.ec == std::errc() && parsed.ptr == end && number >= minimum_ && number <= maximum_) {
    variable = value;
    return {};
  }
  std::string wanted = std::is_integral_v<Number> ? "a whole number" : "a number";
  const double low = std::is_unsigned_v<Number> ? std::max(minimum_, 0.0) : minimum_;
  if (parsed.ec == std::errc::result_out_of_range && std::is_integral_v<Number>) {
    wanted = fmt::format("a whole {}-bit number", 8 * sizeof(Number));
  }
  return refuse(text, wanted_number(std::move(wanted), low, maximum_));
}

std::expected<void, std::string> Option::set(const std::string& text) {
  if (!choices_.empty() && std::ranges::find(choices_, text) == choices_.end()) {
    return refuse(text, choice_list());
  }
  if (text.empty() && !may_be_empty_) return refuse(text, "a name");
  return std::visit(
      Overloaded{[&](bool* variable) -> std::expected<void, std::string> {
                   if (text != "true" && text != "false" && text != "1" && text != "0") {
                     return refuse(text, "true or false");
                   }
                   *variable = text == "true" || text == "1";
                   return {};
                 },
                 [&](std::string* variable) -> std::expected<void, std::string> {
                   *variable = text;
                   return {};
                 },
                 [&](std::vector<std::string>* variable) -> std::expected<void, std::string> {
                   variable->push_back(text);
                   return {};
                 },
                 [&](auto* variable) { return set_number(*variable, text); }},
      target_);
}

bool Option::holds_value() const {
  return std::visit(
      [this](const auto* variable) {
        using Value = std::remove_cvref_t<decltype(*variable)>;
        if constexpr (std::is_arithmetic_v<Value>) {
          return static_cast<double>(*variable) >= minimum_;
        } else {
          return true;
        }
      },
      target_);
}

std::string Option::text() const {
  return std::visit(
      Overloaded{[](const bool* variable) -> std::string { return *variable ? "true" : "false"; },
                 [](const std::string* variable) { return *variable; },
                 [](const std::vector<std::string>* variable) {
                   return fmt::format("{}", fmt::join(*variable, "\n"));
                 },
                 [](const auto* variable) { return fmt::format("{}", *variable); }},
      target_);
}

std::string Option::value_name() const {
  if (!value_name_.empty()) return value_name_;
  if (!choices_.empty()) return "WORD";
  if (std::holds_alternative<double*>(target_)) return "X";
  return is_list() || std::holds_alternative<std::string*>(target_) ? "TEXT" : "N";
}

std::string Option::choice_list() const {
  std::string text;
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    if (i != 0) text += i + 1 == choices_.size() ? " or " : ", ";
    text += choices_[i];
  }
  return text;
}

std::size_t Option::element_count() const {
  return is_list() ? std::get<std::vector<std::string>*>(target_)->size() : 1;
}

Option* OptionSet::find(std::string_view name) {
  const auto found = std::ranges::find(options_, name, &Option::name);
  return found == options_.end() ? nullptr : &*found;
}

void OptionSet::save(Writer& writer) const {
  const auto save_one = [&](const Option& option) {
    if (option.is_list()) {
      const auto& list = *std::get<std::vector<std::string>*>(option.target());
      writer.put(static_cast<std::uint32_t>(list.size()));
      for (const std::string& element : list) writer.put_string(element);
    } else {
      writer.put(std::uint32_t{1});
      writer.put_string(option.text());
    }
  };
  for (const Option& option : options_) save_one(option);
  if (inputs_) save_one(*inputs_);
}

std::expected<void, std::string> OptionSet::load(Reader& reader) {
  const auto load_one = [&](Option& option) -> std::expected<void, std::string> {
    if (option.is_list()) std::get<std::vector<std::string>*>(option.target())->clear();
    const std::size_t count = reader.get_count(sizeof(std::uint32_t));
    if (!option.is_list() && count != 1) return std::unexpected(kDamaged);
    for (std::size_t i = 0; i < count; ++i) {
      const std::string text(reader.get_string());
      if (reader.failed()) return std::unexpected(kDamaged);
      if (auto set = option.set(text); !set) return set;
    }
    return reader.failed() ? std::unexpected(kDamaged) : std::expected<void, std::string>{};
  };
  for (Option& option : options_) {
    if (auto loaded = load_one(option); !loaded) return loaded;
  }
  return inputs_ ? load_one(*inputs_) : std::expected<void, std::string>{};
}

}  // namespace regroup
