#include "http.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "error.h"

namespace recsplit {

namespace {

constexpr size_t kLongestHead = 64 << 10, kLongestBody = size_t{1} << 31, kRead = 256 << 10, kFirstRead = 16 << 10, kKept = 4 << 20;
constexpr size_t kPiecesAtOnce = 64;

[[noreturn]] void lost(const std::string& what) { throw Error(what); }

std::string reason() { return std::strerror(errno); }

// Whether a line of a head is of this field, whatever its letters' case; then its value.
bool field(const std::string& line, const char* name, std::string& value) {
  const size_t size = std::strlen(name);
  if (line.size() <= size || line[size] != ':' || strncasecmp(line.data(), name, size) != 0) return false;
  size_t first = size + 1, last = line.size();
  while (first < last && (line[first] == ' ' || line[first] == '\t')) ++first;
  while (last > first && (line[last - 1] == ' ' || line[last - 1] == '\t')) --last;
  value = line.substr(first, last - first);
  return true;
}

size_t number_of(const std::string& text) {
  char* end = nullptr;
  errno = 0;
  const unsigned long long number = std::strtoull(text.c_str(), &end, 10);
  if (text.empty() || text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number > kLongestBody) lost("an answer of a length that can't be: " + text.substr(0, 40));
  return static_cast<size_t>(number);
}

}  // namespace

HttpConnection::HttpConnection(const sockaddr_in& address) {
  socket_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket_ < 0) lost("no socket: " + reason());
  const int on = 1;
  setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    connecting_ = false;
  } else if (errno != EINPROGRESS) {
    const std::string why = reason();
    close(socket_);
    socket_ = -1;
    lost(why);
  }
}

HttpConnection::~HttpConnection() {
  if (socket_ >= 0) close(socket_);
}

void HttpConnection::begin(std::string head, const std::vector<Piece>& body) {
  head_ = std::move(head);
  left_.clear();
  first_left_ = 0;
  left_.push_back({head_.data(), head_.size()});
  for (const Piece& piece : body) {
    if (piece.size > 0) left_.push_back({const_cast<void*>(piece.data), piece.size});
  }
  sending_ = true;
  count_ = 0;
  if (received_.size() > kKept) std::string().swap(received_);
  head_size_ = body_size_ = json_size_ = 0;
  status_ = 0;
  keeps_ = true;
}

bool HttpConnection::is_silent() const {
  char byte = 0;
  const ssize_t count = recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

short HttpConnection::events() const { return connecting_ || sending_ ? POLLOUT | POLLIN : POLLIN; }

bool HttpConnection::proceed() {
  if (connecting_) {
    int error = 0;
    socklen_t size = sizeof error;
    pollfd ready{socket_, POLLOUT, 0};
    if (poll(&ready, 1, 0) == 0) return false;
    if (getsockopt(socket_, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) lost(std::strerror(error));
    connecting_ = false;
  }
  if (sending_) send_some();
  return receive_some();
}

void HttpConnection::send_some() {
  while (first_left_ < left_.size()) {
    msghdr message{};
    message.msg_iov = left_.data() + first_left_;
    message.msg_iovlen = std::min(left_.size() - first_left_, kPiecesAtOnce);
    ssize_t sent = sendmsg(socket_, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (sent < 0) lost(reason());
    for (auto rest = static_cast<size_t>(sent); rest > 0;) {
      iovec& piece = left_[first_left_];
      const size_t part = std::min(rest, piece.iov_len);
      piece.iov_base = static_cast<char*>(piece.iov_base) + part;
      piece.iov_len -= part;
      rest -= part;
      if (piece.iov_len == 0) ++first_left_;
    }
  }
  sending_ = false;
}

bool HttpConnection::receive_some() {
  while (true) {
    const size_t missing = head_size_ == 0 ? kFirstRead : head_size_ + body_size_ - count_;
    const size_t room = std::min(std::max<size_t>(missing, 1), kRead);
    if (received_.size() < count_ + room) received_.resize(count_ + room);
    const ssize_t count = recv(socket_, &received_[count_], room, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (count < 0) lost(reason());
    if (count == 0) lost("the server closed the connection");
    count_ += static_cast<size_t>(count);
    if (head_size_ == 0) {
      const size_t end = std::string_view(received_.data(), count_).find("\r\n\r\n");
      if (end == std::string::npos) {
        if (count_ > kLongestHead) lost("an answer without an end of its head");
        continue;
      }
      read_head(end + 4);
    }
    if (count_ > head_size_ + body_size_) lost("more came than the answer has");
    if (count_ == head_size_ + body_size_) {
      if (sending_) lost("an answer before the question was sent");
      served_ = true;
      return true;
    }
  }
}

void HttpConnection::read_head(size_t size) {
  if (received_.compare(0, 9, "HTTP/1.1 ") != 0 || size < 13) lost("no answer of HTTP/1.1");
  status_ = std::atoi(received_.substr(9, 3).c_str());
  bool has_length = false;
  for (size_t start = received_.find("\r\n") + 2; start + 2 < size;) {
    const size_t end = received_.find("\r\n", start);
    const std::string line = received_.substr(start, end - start);
    std::string value;
    if (field(line, "Content-Length", value)) {
      body_size_ = number_of(value);
      has_length = true;
    } else if (field(line, "Inference-Header-Content-Length", value)) {
      json_size_ = number_of(value);
    } else if (field(line, "Transfer-Encoding", value)) {
      lost("an answer in chunks");
    } else if (field(line, "Connection", value) && strcasecmp(value.c_str(), "close") == 0) {
      keeps_ = false;
    }
    start = end + 2;
  }
  if (!has_length) lost("an answer without its length");
  if (json_size_ > body_size_) lost("an answer whose JSON is longer than itself");
  head_size_ = size;
}

}  // namespace recsplit
