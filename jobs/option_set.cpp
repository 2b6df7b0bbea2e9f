#include "jobs/option_set.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace regroup {
namespace {

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i != 0) text += i + 1 == words.size() ? " or " : ", ";
    text += words[i];
  }
  return text;
}

}  // namespace

std::expected<void, std::string> Option::refuse(const std::string& text,
                                                const std::string& wanted) const {
  return std::unexpected(fmt::format("--{} takes {}, not '{}'", name_, wanted, text));
}

template <class Number>
std::expected<void, std::string> Option::set_number(Number& variable, const std::string& text) {
  constexpr bool kIntegral = std::is_integral_v<Number>;
  double low = minimum_;
  if (std::is_unsigned_v<Number>) low = std::max(low, 0.0);
  std::string wanted = kIntegral ? "a whole number" : "a number";
  if (low != -std::numeric_limits<double>::infinity()) wanted += fmt::format(" of {} or more", low);
  if (maximum_ != std::numeric_limits<double>::infinity()) {
    wanted += fmt::format(", {} at most", maximum_);
  }
  Number value{};
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end) return refuse(text, wanted);
  const auto number = static_cast<double>(value);
  if (!(number >= low && number <= maximum_)) return refuse(text, wanted);
  variable = value;
  return {};
}

std::expected<void, std::string> Option::set(const std::string& text) {
  if (!choices_.empty() && std::ranges::find(choices_, text) == choices_.end()) {
    return refuse(text, join(choices_));
  }
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
    for (std::size_t i = 0; i < count; ++i) {
      if (auto set = option.set(std::string(reader.get_string())); !set) return set;
    }
    if (reader.failed()) return std::unexpected("the job's parameters are damaged");
    return {};
  };
  for (Option& option : options_) {
    if (auto loaded = load_one(option); !loaded) return loaded;
  }
  return inputs_ ? load_one(*inputs_) : std::expected<void, std::string>{};
}

}  // namespace regroup
