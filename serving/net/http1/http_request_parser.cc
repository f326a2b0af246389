#include "serving/net/http1/http_request_parser.h"

#include <boost/beast/http/impl/basic_parser.ipp>

namespace tfipu::serving::net::http1 {
namespace {

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// The part before a separator, which is cut off `text` together with it.
std::string_view Cut(std::string_view* text, char separator) {
  const std::size_t at = text->find(separator);
  const std::string_view part = text->substr(0, at);
  *text = at == std::string_view::npos ? std::string_view() : text->substr(at + 1);
  return Trim(part);
}

// "0", "0.", "0.0", "0.00" and "0.000".
bool IsZero(std::string_view weight) {
  return !weight.empty() && weight.find_first_not_of("0.") == std::string_view::npos;
}

}  // namespace

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (Lower(a[i]) != Lower(b[i])) return false;
  }
  return true;
}

bool HasToken(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    std::string_view item = Cut(&list, ',');
    if (!EqualsIgnoringCase(Cut(&item, ';'), token)) continue;
    while (!item.empty()) {
      std::string_view parameter = Cut(&item, ';');
      if (EqualsIgnoringCase(Cut(&parameter, '='), "q")) return !IsZero(Trim(parameter));
    }
    return true;
  }
  return false;
}

std::string_view HttpRequestHead::field(std::string_view name) const {
  for (const Field& field : fields_) {
    const char* const begin = text_.data() + field.begin;
    if (field.name_size == name.size() && EqualsIgnoringCase({begin, field.name_size}, name)) {
      return {begin + field.name_size, field.value_size};
    }
  }
  return {};
}

void HttpRequestParser::on_request_impl(boost::beast::http::verb, Text method, Text target, int version,
                                        Error&) {
  head_->text_.assign(method.data(), method.size());
  head_->text_.append(target.data(), target.size());
  head_->method_size_ = method.size();
  head_->target_size_ = target.size();
  head_->version_ = version;
}

std::size_t HttpRequestParser::on_chunk_body_impl(std::uint64_t, Text chunk, Error& error) {
  if (!body_->Append({chunk.data(), chunk.size()}, max_body_bytes_)) {
    error = boost::system::errc::make_error_code(boost::system::errc::not_enough_memory);
    return 0;
  }
  return chunk.size();
}

void HttpRequestParser::on_field_impl(boost::beast::http::field name, Text name_text, Text value, Error&) {
  if (header_done_) return;
  head_->fields_.push_back({static_cast<std::uint32_t>(head_->text_.size()),
                            static_cast<std::uint32_t>(name_text.size()),
                            static_cast<std::uint32_t>(value.size())});
  head_->text_.append(name_text.data(), name_text.size());
  head_->text_.append(value.data(), value.size());
  if (name == boost::beast::http::field::host) ++hosts_;
  if (name == boost::beast::http::field::transfer_encoding &&
      !EqualsIgnoringCase({value.data(), value.size()}, "chunked")) {
    foreign_transfer_encoding_ = true;
  }
}

}  // namespace tfipu::serving::net::http1
